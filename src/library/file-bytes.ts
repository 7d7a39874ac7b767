/** Moving the bytes of files, the way the data path of a mount does: data to the device first, then what names it. */
import { FsError } from '../errors.js';
import type { Filesystem } from '../ext4/filesystem.js';
import type { Ino } from '../ext4/inode.js';
import { IOEND_UPDATE_TIMES, OP_WRITE, TYPE_UNWRITTEN } from '../ext4/iomap.js';
import { mustBeRegular } from './attributes.js';

/** Reads up to `into.length` bytes; how many there are before the end of the file. */
export function readBytes(fs: Filesystem, ino: Ino, pos: number, into: Uint8Array): number {
  mustBeRegular(fs, ino);
  const { size } = fs.stat(ino);
  const length = Math.max(0, Math.min(into.length, size - pos));
  if (length > 0) fs.readData(ino, pos, into.subarray(0, length));
  fs.touchAtime(ino);
  return length;
}

/** Throws FsError; then a part may have been written. */
export function writeBytes(fs: Filesystem, ino: Ino, pos: number, bytes: Uint8Array): void {
  mustBeRegular(fs, ino);
  if (fs.writesThroughEngine(ino, pos, bytes.length)) {
    fs.writeJournaled(ino, pos, bytes, OP_WRITE, IOEND_UPDATE_TIMES);
    return;
  }
  const { device, geometry } = fs.volume;
  for (let done = 0; done < bytes.length; ) {
    const at = pos + done;
    const mapping = fs.iomapBegin(ino, at, bytes.length - done, OP_WRITE);
    const length = Math.min(bytes.length - done, mapping.offsetBytes + mapping.lengthBytes - at);
    const addr = mapping.addrBytes + (at - mapping.offsetBytes);
    const piece = bytes.subarray(done, done + length);
    try {
      if (mapping.type === TYPE_UNWRITTEN) writeWholeBlocks(device, addr, piece, geometry.blockSize);
      else device.write(addr, piece);
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      fs.iomapEnd(ino, at, length, 0, OP_WRITE, mapping);
      throw error;
    }
    fs.iomapIoend(ino, at, length, addr, IOEND_UPDATE_TIMES, 0);
    done += length;
  }
}

/** Blocks that hold nothing yet are written whole: around the bytes are zeroes, not what lay there before. */
function writeWholeBlocks(device: Filesystem['volume']['device'], addr: number, bytes: Uint8Array, blockSize: number) {
  const head = addr % blockSize;
  const padded = new Uint8Array(Math.ceil((head + bytes.length) / blockSize) * blockSize);
  padded.set(bytes, head);
  device.write(addr - head, padded);
}
