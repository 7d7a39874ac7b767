/** Writing and reading a file below the level of names, and a plain array of bytes to compare it with. */
import { Inode } from '../../../src/ext4/inode.js';
import { begin, ioend, OP_WRITE, TYPE_MAPPED, TYPE_UNWRITTEN } from '../../../src/ext4/iomap.js';
import type { Volume } from '../../../src/ext4/volume.js';

/** A write as the native path does it: whole new blocks reach the device, filled up with zeroes. */
export function write(vol: Volume, ino: number, pos: number, data: Uint8Array): void {
  const { blockSize } = vol.geometry;
  for (let done = 0; done < data.length; ) {
    const at = pos + done;
    const mapping = begin(vol, ino, at, data.length - done, OP_WRITE);
    const length = Math.min(data.length - done, mapping.offsetBytes + mapping.lengthBytes - at);
    const addr = mapping.addrBytes + (at - mapping.offsetBytes);
    const head = mapping.type === TYPE_UNWRITTEN ? at % blockSize : 0;
    const tail = mapping.type === TYPE_UNWRITTEN ? (blockSize - ((at + length) % blockSize)) % blockSize : 0;
    const padded = new Uint8Array(head + length + tail);
    padded.set(data.subarray(done, done + length), head);
    vol.device.write(addr - head, padded);
    ioend(vol, ino, at, length, addr, 0, 0);
    done += length;
  }
}

export function read(vol: Volume, ino: number): Uint8Array {
  const size = Inode.get(vol, ino).sizeBytes;
  const data = new Uint8Array(size);
  for (let pos = 0; pos < size; ) {
    const mapping = begin(vol, ino, pos, size - pos, 0);
    const length = Math.min(size - pos, mapping.offsetBytes + mapping.lengthBytes - pos);
    if (mapping.type === TYPE_MAPPED) {
      vol.device.read(mapping.addrBytes + pos - mapping.offsetBytes, data.subarray(pos, pos + length));
    }
    pos += length;
  }
  return data;
}

/** What the file would hold: a plain array of bytes. */
export class Model {
  bytes = new Uint8Array(0);

  resize(size: number): void {
    const next = new Uint8Array(size);
    next.set(this.bytes.subarray(0, size));
    this.bytes = next;
  }
  write(pos: number, data: Uint8Array): void {
    if (pos + data.length > this.bytes.length) this.resize(pos + data.length);
    this.bytes.set(data, pos);
  }
  zero(pos: number, length: number): void {
    this.bytes.fill(0, Math.min(pos, this.bytes.length), Math.min(pos + length, this.bytes.length));
  }
  collapse(pos: number, length: number): void {
    this.bytes = Uint8Array.from(Buffer.concat([this.bytes.subarray(0, pos), this.bytes.subarray(pos + length)]));
  }
  insert(pos: number, length: number): void {
    const hole = new Uint8Array(length);
    this.bytes = Uint8Array.from(Buffer.concat([this.bytes.subarray(0, pos), hole, this.bytes.subarray(pos)]));
  }
}
