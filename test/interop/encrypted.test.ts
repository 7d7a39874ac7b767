/** Encrypted directories, which ext4d has no keys for, next to the kernel without the key. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { codeOf } from '../support/code-of.js';
import { makeImageFile, run } from '../support/mke2fs.js';
import {
  EXT4D,
  requireOrSkip,
  whyNoFuse,
  whyNoKernelExt4,
  withKernelMount,
  withMount,
  withMountpoint,
} from '../support/server.js';

/** Why no encrypted image can be made here, or null. */
function whyNoEncryption(): string | null {
  const why = whyNoFuse() ?? whyNoKernelExt4();
  if (why !== null) return why;
  if (run('sh', ['-c', 'command -v xfs_io']).code !== 0) return 'xfs_io is missing (xfsprogs)';
  return run('cat', ['/sys/fs/ext4/features/encryption']).code === 0 ? null : 'this kernel has no ext4 encryption';
}

/** Encrypts `directory`, for as long as it is mounted. */
function encrypt(mountpoint: string, directory: string): void {
  const added = spawnSync('xfs_io', ['-c', 'add_enckey', mountpoint], {
    input: Buffer.alloc(64, 'k'),
    encoding: 'utf8',
  });
  const [, key] = /identifier ([0-9a-f]{32})/.exec(added.stdout) ?? [];
  assert.ok(key, added.stdout + added.stderr);
  const { code, output } = run('xfs_io', ['-c', `set_encpolicy -v 2 ${key}`, directory]);
  assert.equal(code, 0, output);
}

/** Names, types, sizes and targets below `directory`. */
function listing(directory: string): string[] {
  return readdirSync(directory)
    .sort()
    .flatMap((name) => {
      const path = join(directory, name);
      const stat = lstatSync(path);
      const target = stat.isSymbolicLink() ? readlinkSync(path) : '';
      const line = `${name} ${stat.mode} ${stat.size} ${target}`;
      return stat.isDirectory() ? [line, ...listing(path).map((below) => `${name}/${below}`)] : [line];
    });
}

describe('an encrypted directory', function () {
  this.timeout(120_000);
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoEncryption());
  });

  it('is shown as the kernel shows it without the key: names, links and sizes, and no contents', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 64, ['-O', 'encrypt', '-b', '4096']);
      const at = (path: string) => join(mountpoint, path);
      await withKernelMount(image, mountpoint, '', () => {
        mkdirSync(at('secret'));
        writeFileSync(at('plain'), 'plain');
        encrypt(mountpoint, at('secret'));
        writeFileSync(at('secret/file'), 'content');
        writeFileSync(at(`secret/${'long'.repeat(60)}`), 'content');
        symlinkSync('somewhere', at('secret/link'));
        symlinkSync('far/'.repeat(40), at('secret/longlink'));
        mkdirSync(at('secret/many'));
        for (let i = 0; i < 600; i++) writeFileSync(at(`secret/many/file number ${i}`), String(i));
      });
      let theirs: string[] = [];
      await withKernelMount(image, mountpoint, 'ro', () => {
        theirs = listing(at('secret'));
      });
      assert.equal(theirs.length, 605);
      await withMount(image, mountpoint, '', () => {
        assert.deepEqual(listing(at('secret')), theirs);
        assert.equal(readFileSync(at('plain'), 'utf8'), 'plain');
        const file = theirs.find((line) => line.endsWith(' 7 ') && !line.includes('/'))?.split(' ')[0] ?? '';
        assert.match(run('cat', [at(`secret/${file}`)]).output, /Required key not available/);
        assert.equal(
          codeOf(() => writeFileSync(at('new'), '')),
          'EROFS',
        );
      });
      assert.match(
        run(EXT4D, ['mount', '-o', 'rw', image, mountpoint]).output,
        /encrypt is supported for reading only/,
      );
      const checked = run(EXT4D, ['check', image]);
      assert.equal(checked.code, 0, checked.output);
    }));
});
