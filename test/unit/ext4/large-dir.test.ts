import assert from 'node:assert/strict';
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { realEnvironment } from '../../../src/ext4/environment.js';
import { Filesystem } from '../../../src/ext4/filesystem.js';
import { EXT4_ROOT_INO } from '../../../src/ext4/format/inode.js';
import { debugfs, fsck, makeImage } from '../../support/mke2fs.js';

const ROOT = { uid: 0, gid: 0 };
const bytes = (text: string) => new TextEncoder().encode(text);
/** Three to a block of 1k: an index of two levels is full after some 40,000. */
const nameOf = (i: number) => bytes(`${i} `.padEnd(250, 'n'));

describe('a directory with a full index of two levels', function () {
  this.timeout(120_000);

  /** Links one file under long names, `most` of them or until one is refused; how many. */
  function fill(fs: Filesystem, most: number): number {
    const dir = fs.mkdir(EXT4_ROOT_INO, bytes('d'), 0o755, ROOT);
    const ino = fs.create(dir, nameOf(0), 0o644, ROOT);
    for (let made = 1; made < most; made++) {
      try {
        fs.link(ino, dir, nameOf(made));
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'ENOSPC');
        return made;
      }
    }
    return most;
  }

  function opened(features: string[], use: (fs: Filesystem) => void): Uint8Array {
    const image = makeImage(64, ['-b', '1024', '-J', 'size=16', ...features]);
    const fs = Filesystem.open(new MemoryDevice(image), { env: { ...realEnvironment, schedule: () => () => {} } });
    use(fs);
    fs.closeSync();
    const { code, output } = fsck(image);
    assert.equal(code, 0, output);
    return image;
  }

  it('takes no more names without large_dir', () => {
    opened([], (fs) => assert.ok(fill(fs, 60_000) < 60_000));
  });

  it('grows a third level with large_dir, in which all names are found and from which they go', () => {
    const image = opened(['-O', 'large_dir'], (fs) => {
      assert.equal(fill(fs, 60_000), 60_000);
      const dir = fs.lookup(EXT4_ROOT_INO, bytes('d'));
      for (let i = 0; i < 60_000; i++) assert.notEqual(fs.lookup(dir, nameOf(i)), 0, `name ${i}`);
      let listed = 0;
      fs.readdir(dir, 0, () => {
        listed++;
        return true;
      });
      assert.equal(listed, 60_002);
      for (let i = 0; i < 60_000; i += 3) fs.unlink(dir, nameOf(i));
    });
    assert.match(debugfs(image, 'htree_dump /d'), /Indirect levels: 2/);
  });
});
