/** Inodes without data of their own, below everything that keeps callers from them. */
import assert from 'node:assert/strict';
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { Filesystem } from '../../../src/ext4/filesystem.js';
import { IOEND_UPDATE_TIMES, OP_WRITE } from '../../../src/ext4/iomap.js';
import { codeOf } from '../../support/code-of.js';
import { fsck, makeImage } from '../../support/mke2fs.js';

const ROOT_INO = 2;
const OWNER = { uid: 0, gid: 0 };
/** As i_block holds it, the number of a device reads as a block of the image. */
const RDEV = 0x0905;

describe('fifos, sockets, device nodes and links', () => {
  const images: Record<string, readonly string[]> = {
    'of an ordinary image': [],
    'where small content lies in the inode': ['-O', 'inline_data', '-I', '256'],
    'without extents': ['-t', 'ext3'],
  };
  for (const [where, args] of Object.entries(images)) {
    for (const journalsData of [false, true]) {
      it(`have no data to write, read or find, ${where}${journalsData ? ', with data in the log' : ''}`, () => {
        const image = makeImage(16, args).slice();
        const fs = Filesystem.open(new MemoryDevice(image), { policy: { journalsData } });
        const name = (text: string) => Buffer.from(text);
        const inos = [0o010644, 0o140644, 0o020644, 0o060644].map((mode) =>
          fs.mknod(ROOT_INO, name(`node${mode}`), mode, RDEV, OWNER),
        );
        inos.push(fs.symlink(ROOT_INO, name('link'), name('target'), OWNER));
        const bytes = new Uint8Array(30).fill(0xee);
        for (const ino of inos) {
          const before = { ...fs.stat(ino), atime: null };
          const attempts = {
            write: () => fs.iomapBegin(ino, 0, 30, OP_WRITE),
            'write through the log': () => fs.writeJournaled(ino, 0, bytes, OP_WRITE, IOEND_UPDATE_TIMES),
            end: () => fs.iomapIoend(ino, 0, 30, 9 * 1024, IOEND_UPDATE_TIMES, 0),
            resize: () => fs.setattr(ino, { size: 30 }),
            read: () => fs.readData(ino, 0, bytes),
            'find data': () => fs.seek(ino, 0, 'data'),
          };
          for (const [what, attempt] of Object.entries(attempts)) assert.equal(codeOf(attempt), 'EINVAL', what);
          assert.equal(
            codeOf(() => fs.fallocate(ino, 0, 0, 4096)),
            'ENODEV',
          );
          assert.deepEqual({ ...fs.stat(ino), atime: null }, before);
        }
        fs.closeSync();
        const { code, output } = fsck(image);
        assert.equal(code, 0, output);
      });
    }
  }
});
