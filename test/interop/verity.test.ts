/** Files with a hash tree: what does not match it is not read. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { codeOf } from '../support/code-of.js';
import { makeImageFile, run } from '../support/mke2fs.js';
import { requireOrSkip, whyNoFuse, withMount, withMountpoint } from '../support/server.js';

const ALIGNMENT = 65_536;
const SALT = Buffer.from('some salt');

/** `data` with tree and descriptor behind it, as `fsverity enable --salt=... --block-size=4096` leaves it on ext4. */
function withTree(data: Buffer, blockBytes = 4096): { bytes: Buffer; descriptor: Buffer } {
  const salt = Buffer.concat([SALT, Buffer.alloc(64 - SALT.length)]);
  const blocksOf = (bytes: Buffer) =>
    Array.from({ length: Math.ceil(bytes.length / blockBytes) }, (_, i) => {
      const block = Buffer.alloc(blockBytes);
      bytes.copy(block, 0, i * blockBytes, Math.min(bytes.length, (i + 1) * blockBytes));
      return block;
    });
  const digest = (block: Buffer) => createHash('sha256').update(salt).update(block).digest();
  const levels: Buffer[] = [];
  let hashes = blocksOf(data).map(digest);
  while (hashes.length > 1) {
    const level = blocksOf(Buffer.concat(hashes));
    levels.unshift(Buffer.concat(level));
    hashes = level.map(digest);
  }
  const descriptor = Buffer.alloc(256);
  descriptor.set([1, 1, Math.log2(blockBytes), SALT.length]);
  descriptor.writeBigUInt64LE(BigInt(data.length), 8);
  (hashes[0] ?? Buffer.alloc(32)).copy(descriptor, 16);
  SALT.copy(descriptor, 80);
  const last = Buffer.alloc(4096);
  descriptor.copy(last);
  last.writeUInt32LE(descriptor.length, 4092);
  const gap = Buffer.alloc(Math.ceil(data.length / ALIGNMENT) * ALIGNMENT - data.length);
  return { bytes: Buffer.concat([data, gap, ...levels, last]), descriptor };
}

describe('a verity file', function () {
  this.timeout(120_000);
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
  });

  const CASES: [name: string, data: Buffer][] = [
    ['small', Buffer.from('small')],
    ['block', Buffer.alloc(4096, 'b')],
    ['large', Buffer.from(Array.from({ length: 700_001 }, (_, i) => (i * 7 + (i >> 9)) & 255))],
  ];

  const withImage = (use: (image: string, mountpoint: string) => Promise<void>) =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      const content = join(scratch, 'content');
      mkdirSync(content);
      for (const [name, data] of CASES) writeFileSync(join(content, name), withTree(data).bytes);
      makeImageFile(image, 32, ['-d', content, '-O', 'verity']);
      for (const [name, data] of CASES) {
        for (const command of [`sif ${name} size ${data.length}`, `sif ${name} flags 0x180000`])
          assert.equal(run('debugfs', ['-w', '-R', command, image]).code, 0);
      }
      await use(image, mountpoint);
    });

  it('is read, and nothing can be written beside it', () =>
    withImage((image, mountpoint) =>
      withMount(image, mountpoint, '', () => {
        for (const [name, data] of CASES) assert.ok(readFileSync(join(mountpoint, name)).equals(data), name);
        assert.equal(
          codeOf(() => writeFileSync(join(mountpoint, 'new'), '')),
          'EROFS',
        );
      }),
    ));

  for (const [what, at] of [
    ['data', 500_000],
    ['the hash tree', Math.ceil(700_001 / ALIGNMENT) * ALIGNMENT + 4096 + 3],
  ] as const) {
    it(`of which one bit of ${what} has changed is read where it is whole, and answers EIO where it is not`, () =>
      withImage(async (image, mountpoint) => {
        const shown = run('debugfs', ['-R', `bmap large ${Math.floor(at / 4096)}`, image]).output;
        const block = Number(/^\d+/m.exec(shown)?.[0]);
        const bytes = readFileSync(image);
        bytes[block * 4096 + (at % 4096)] ^= 4;
        writeFileSync(image, bytes);
        await withMount(image, mountpoint, '', () => {
          const file = join(mountpoint, 'large');
          assert.equal(
            codeOf(() => readFileSync(file)),
            'EIO',
          );
          assert.equal(
            run('dd', [`if=${file}`, 'of=/dev/null', 'bs=4096', 'skip=160', 'count=1', 'iflag=direct']).code,
            0,
          );
          assert.ok(readFileSync(join(mountpoint, 'block')).equals(CASES[1][1]));
        });
      }));
  }
});
