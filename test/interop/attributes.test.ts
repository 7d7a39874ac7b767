/** Extended attributes of all sizes, written by ext4d and by the kernel: each reads what the other wrote, e2fsck has nothing to say. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { copyFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MemoryDevice } from '../../src/block/memory-device.js';
import { EXT4_ROOT_INO } from '../../src/ext4/format/inode.js';
import { Inode } from '../../src/ext4/inode.js';
import { lookup } from '../../src/ext4/namei.js';
import { openVolume } from '../../src/ext4/open.js';
import { blockAttributes, inodeAttributes } from '../../src/ext4/xattr.js';
import type { Attribute } from '../../src/ext4/xattr-entries.js';
import { mustBeClean } from '../support/clean.js';
import { makeImageFile, run } from '../support/mke2fs.js';
import {
  Mount,
  requireOrSkip,
  whyNoFuse,
  whyNoKernelExt4,
  withKernelMount,
  withMount,
  withMountpoint,
} from '../support/server.js';

const FORMATS: { name: string; args: string[] }[] = [
  { name: 'ea_inode, 4k', args: ['-O', 'ea_inode'] },
  { name: 'ea_inode, 1k', args: ['-b', '1024', '-O', 'ea_inode'] },
  { name: 'ea_inode, 4k, small inodes', args: ['-I', '128', '-O', 'ea_inode'] },
  { name: 'ea_inode, 1k, small inodes', args: ['-b', '1024', '-I', '128', '-O', 'ea_inode,orphan_file'] },
  { name: 'ea_inode, block maps', args: ['-b', '1024', '-O', 'ea_inode,^extent,^64bit,^metadata_csum'] },
  { name: 'as by default', args: ['-b', '1024'] },
];
const LENGTHS = [0, 1, 30, 100, 500, 900, 970, 2000, 3500, 4030, 4090, 9000, 65_535, 65_536];

/** A small generator: equal seeds give equal runs. */
function generator(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** For `setfattr --restore`; names of attributes of one file with their values. */
type Attributes = Map<string, Buffer>;

function restoreText(directory: string, files: ReadonlyMap<string, Attributes>): string {
  return [...files]
    .map(([file, attributes]) => {
      const lines = [...attributes].map(([name, value]) => `${name}=0s${value.toString('base64')}\n`);
      return `# file: ${join(directory, file)}\n${lines.join('')}\n`;
    })
    .join('');
}

/** Without ea_inode some do not fit. */
function setAll(directory: string, files: ReadonlyMap<string, Attributes>): void {
  const { output } = run('setfattr', ['--restore=-'], restoreText(directory, files));
  for (const line of output.split('\n')) if (line !== '') assert.match(line, /No space left/);
}

/** Every attribute of every file, with the value. */
function dump(directory: string): string {
  const names = readdirSync(directory).filter((name) => name !== 'lost+found');
  if (names.length === 0) return '';
  const { code, output } = run('getfattr', [
    '-d',
    '-m',
    '-',
    '-e',
    'base64',
    '--absolute-names',
    ...names.sort().map((name) => join(directory, name)),
  ]);
  assert.equal(code, 0, output);
  return output;
}

/** Attributes of all lengths for files, several of which get the same; `variant` makes others. */
function attributesOf(prefix: string, variant: number): Map<string, Attributes> {
  const files = new Map<string, Attributes>();
  for (let i = 0; i < 24; i++) {
    const random = generator(variant * 100 + (i % 8));
    const attributes: Attributes = new Map();
    for (let k = 0; k < 5; k++) {
      const length = LENGTHS[random(LENGTHS.length)];
      attributes.set(`user.k${k}`, Buffer.alloc(length, `${variant} ${length} `));
    }
    attributes.set('trusted.same', Buffer.alloc(700, `${variant}`));
    files.set(`${prefix}${i}`, attributes);
  }
  return files;
}

function fill(directory: string, prefix: string, variant: number): void {
  const files = attributesOf(prefix, variant);
  for (const name of files.keys()) writeFileSync(join(directory, name), '');
  setAll(directory, files);
}

function change(directory: string, prefix: string): void {
  for (let i = 0; i < 24; i += 3) rmSync(join(directory, `${prefix}${i}`));
  const files = new Map<string, Attributes>();
  for (let i = 1; i < 24; i += 3)
    files.set(
      `${prefix}${i}`,
      new Map([
        ['user.k1', Buffer.alloc(3000, 'changed')],
        ['user.k0', Buffer.alloc(9, 'x')],
      ]),
    );
  setAll(directory, files);
  for (let i = 2; i < 24; i += 3) run('setfattr', ['-x', 'user.k2', join(directory, `${prefix}${i}`)]);
}

/** Files with values of lengths around all limits, one after the other until nothing more fits. */
function fillToTheBrim(directory: string): void {
  const around = [60, 88, 92, 96, 840, 860, 896, 900, 964, 968, 972, 3580, 3584, 4036, 4040, 4044, 4096];
  const files = new Map<string, Attributes>();
  for (let i = 0; i < 60; i++) {
    const random = generator(i);
    const attributes: Attributes = new Map();
    for (let k = 0; k <= i % 12; k++) {
      const length = i < around.length ? around[i] : around[random(around.length)] - random(8);
      const name = `user.${'abcdefghijkl'[k].repeat([1, 3, 60][random(3)])}`;
      attributes.set(name, Buffer.alloc(length, `${i} ${k}`));
    }
    files.set(`f${i}`, attributes);
    writeFileSync(join(directory, `f${i}`), '');
  }
  setAll(directory, files);
  // Again with other lengths: values change places.
  for (const attributes of files.values()) {
    for (const [name, value] of attributes)
      attributes.set(name, Buffer.alloc(Math.floor((value.length * 2) / 3), name));
  }
  setAll(directory, files);
}

/** Where the attributes of each file are, with the hashes of those that are elsewhere, and the space the file uses. */
function places(image: string): string {
  const { volume } = openVolume(new MemoryDevice(new Uint8Array(readFileSync(image))), { readOnly: true });
  const text = ({ name, value, external }: Attribute) =>
    `${Buffer.from(name)}: ${external === null ? value.length : `inode of its own, ${external.sizeBytes}, ${external.hash}`}`;
  const lines: string[] = [];
  for (let i = 0; i < 60; i++) {
    const inode = Inode.get(volume, lookup(volume, EXT4_ROOT_INO, Buffer.from(`f${i}`)));
    const inInode = inodeAttributes(inode).map(text).sort();
    lines.push(`f${i} [${inInode}] [${blockAttributes(inode).map(text)}] ${inode.sectors}`);
  }
  return lines.join('\n');
}

describe('extended attributes', function () {
  this.timeout(120_000);
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse() ?? whyNoKernelExt4());
  });

  for (const { name, args } of FORMATS) {
    it(`are read and changed here as the kernel wrote them, and there as they were written here (${name})`, () =>
      withMountpoint(async (scratch, mountpoint) => {
        const image = join(scratch, 'image');
        makeImageFile(image, 64, args);
        let seen = '';
        const look = () => assert.equal(dump(mountpoint), seen);
        await withKernelMount(image, mountpoint, '', () => {
          fill(mountpoint, 'kernel', 1);
          seen = dump(mountpoint);
        });
        mustBeClean(image);
        await withMount(image, mountpoint, '', () => {
          look();
          change(mountpoint, 'kernel');
          fill(mountpoint, 'ours', 2);
          // Values that the kernel wrote are shared, or not, but never mixed up.
          fill(mountpoint, 'equal', 1);
          seen = dump(mountpoint);
        });
        mustBeClean(image);
        // Kernels up to 6.18 at least count one reference too many when a copy of a shared block, once changed, equals another.
        await withKernelMount(image, mountpoint, 'nombcache', () => {
          look();
          change(mountpoint, 'ours');
          seen = dump(mountpoint);
        });
        mustBeClean(image);
        await withMount(image, mountpoint, 'nombcache', () => {
          look();
          for (const file of readdirSync(mountpoint)) if (file !== 'lost+found') rmSync(join(mountpoint, file));
        });
        mustBeClean(image);
      }));
  }

  for (const args of [
    ['-b', '1024', '-I', '128', '-O', 'ea_inode'],
    ['-b', '4096', '-O', 'ea_inode'],
    ['-b', '4096', '-I', '1024', '-O', 'ea_inode'],
  ]) {
    it(`are put where the kernel puts them: inode, block, or an inode of their own (${args.join(' ')})`, () =>
      withMountpoint(async (scratch, mountpoint) => {
        const uuid = ['-U', '11111111-2222-3333-4444-555555555555'];
        const theirs = join(scratch, 'theirs');
        const ours = join(scratch, 'ours');
        for (const image of [theirs, ours]) makeImageFile(image, 32, [...args, ...uuid]);
        await withKernelMount(theirs, mountpoint, 'nombcache', () => fillToTheBrim(mountpoint));
        await withMount(ours, mountpoint, 'nombcache', () => fillToTheBrim(mountpoint));
        assert.equal(places(ours), places(theirs));
        assert.match(places(ours), /inode of its own/);
      }));
  }

  it('are whole after a kill, and e2fsck has nothing to say', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 64, ['-b', '1024', '-J', 'size=2', '-O', 'ea_inode']);
      const churn = join(scratch, 'churn');
      // Equal and different values in turn, on files that come and go.
      const orders = [1, 2, 3].map((variant) => restoreText('.', attributesOf('f', variant)));
      orders.forEach((text, i) => {
        writeFileSync(`${churn}${i}`, text);
      });
      const script = `cd ${mountpoint}; n=0; while :; do for i in 0 1 2; do
        touch $(seq -f 'f%g' 0 23); setfattr --restore=${churn}$i; rm -f f$((n % 24)) f$((n * 7 % 24)); n=$((n + 1)); done; done`;
      for (let round = 0; round < 3; round++) {
        const mount = await Mount.start(image, mountpoint, 'commit=1');
        const writer = spawn('sh', ['-c', script], { stdio: 'ignore' });
        try {
          await new Promise((done) => setTimeout(done, 1700 + 230 * round));
          await mount.kill();
        } finally {
          writer.kill('SIGKILL');
          mount.cleanUp();
        }
        const copy = join(scratch, 'copy');
        copyFileSync(image, copy);
        assert.ok(run('e2fsck', ['-fp', copy]).code <= 1);
        mustBeClean(copy);
        await withMount(image, mountpoint, '', () => {
          assert.notEqual(dump(mountpoint), '');
        });
        mustBeClean(image);
      }
    }));

  it('share a block if they are the same, ACLs too', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 16, ['-b', '1024', '-I', '128']);
      await withMount(image, mountpoint, '', () => {
        assert.equal(run('setfacl', ['-d', '-m', 'u:1234:rwx', mountpoint]).output, '');
        for (let i = 0; i < 50; i++) writeFileSync(join(mountpoint, `f${i}`), '');
      });
      mustBeClean(image);
      const blocks = new Set(
        Array.from(
          { length: 50 },
          (_, i) => /File ACL: (\d+)/.exec(run('debugfs', ['-R', `stat /f${i}`, image]).output)?.[1],
        ),
      );
      assert.equal(blocks.size, 1);
      assert.notDeepEqual([...blocks], ['0']);
    }));
});
