/** File reads and writes over the iomap handlers, for tests that run the engine without a mount. */
import type { Filesystem } from '../../src/ext4/filesystem.js';
import { OP_WRITE, TYPE_MAPPED, TYPE_UNWRITTEN } from '../../src/ext4/iomap.js';

export function writeAt(fs: Filesystem, ino: number, posBytes: number, data: Uint8Array): void {
  const { device, geometry } = fs.volume;
  for (let done = 0; done < data.length; ) {
    const pos = posBytes + done;
    const mapping = fs.iomapBegin(ino, pos, data.length - done, OP_WRITE);
    const length = Math.min(data.length - done, mapping.offsetBytes + mapping.lengthBytes - pos);
    const addr = mapping.addrBytes + (pos - mapping.offsetBytes);
    if (mapping.type === TYPE_UNWRITTEN) {
      // Conversion exposes whole blocks: what the write does not cover of its first and last must be zeroes.
      const { blockSize } = geometry;
      const head = pos % blockSize;
      const tail = (blockSize - ((pos + length) % blockSize)) % blockSize;
      const padded = new Uint8Array(head + length + tail);
      padded.set(data.subarray(done, done + length), head);
      device.write(addr - head, padded);
    } else {
      device.write(addr, data.subarray(done, done + length));
    }
    fs.iomapIoend(ino, pos, length, addr, 0, 0);
    done += length;
  }
}

export function readAll(fs: Filesystem, ino: number): Uint8Array {
  const { size } = fs.stat(ino);
  const data = new Uint8Array(size);
  for (let pos = 0; pos < size; ) {
    const mapping = fs.iomapBegin(ino, pos, size - pos, 0);
    const length = Math.min(size - pos, mapping.offsetBytes + mapping.lengthBytes - pos);
    if (mapping.type === TYPE_MAPPED) {
      fs.volume.device.read(mapping.addrBytes + (pos - mapping.offsetBytes), data.subarray(pos, pos + length));
    }
    pos += length;
  }
  return data;
}
