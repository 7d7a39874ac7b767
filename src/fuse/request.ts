/** One request as read from /dev/fuse, decoded in place: nothing is copied and, when it is small, nothing allocated. */
import { type ReadView, readView } from '../codec/view.js';
import { FsError } from '../errors.js';
import { EXT4_ROOT_INO } from '../ext4/format/inode.js';
import type { Ino } from '../ext4/inode.js';
import { errorOf, type Native } from '../native.js';
import { FUSE_ROOT_ID, IN_HEADER } from './abi.js';

/** Where the opcode's own structure begins. */
export const ARGS = IN_HEADER.SIZE;

/** FUSE calls the root 1, ext4 2. Inode 1 (bad blocks) is in no directory, so node 2 never appears. */
export function inoOf(nodeid: number): Ino {
  return nodeid === FUSE_ROOT_ID ? EXT4_ROOT_INO : nodeid;
}

export function nodeidOf(ino: Ino): number {
  return ino === EXT4_ROOT_INO ? FUSE_ROOT_ID : ino;
}

export class Request {
  readonly bytes: Uint8Array;
  readonly view: ReadView;
  /** Bytes of the request in the buffer. */
  length = 0;
  opcode = 0;
  unique = 0;
  ino: Ino = 0;
  /** Of the caller; the same object for every request in this buffer. */
  readonly cred = { uid: 0, gid: 0 };
  /** Someone will answer it later: the buffer must not be used for another request until then. */
  held = false;
  /** The data of this write is not in the buffer: {@link fetchPayload} brings it. */
  payloadAside = false;
  /** How often it was run again in the hope of more space. */
  spaceRetries = 0;
  /** What the page cache held of its file was written back for it. */
  writtenBack = false;
  /** The buffer is one of the few that requests are read into. */
  readonly pooled: boolean;

  constructor(bytes: Uint8Array, pooled = false) {
    this.bytes = bytes;
    this.pooled = pooled;
    this.view = readView(bytes);
  }

  /** Decodes the header of the `length` bytes just read. False: not a request. */
  decode(length: number): boolean {
    const { view } = this;
    this.length = length;
    this.held = false;
    this.payloadAside = false;
    this.spaceRetries = 0;
    this.writtenBack = false;
    if (length < IN_HEADER.SIZE || IN_HEADER.len.get(view, 0) !== length) return false;
    this.opcode = IN_HEADER.opcode.get(view, 0);
    this.unique = IN_HEADER.unique.get(view, 0);
    this.ino = inoOf(IN_HEADER.nodeid.get(view, 0));
    this.cred.uid = IN_HEADER.uid.get(view, 0);
    this.cred.gid = IN_HEADER.gid.get(view, 0);
    return true;
  }

  /** Everything is in the buffer from now on. Throws FsError. */
  fetchPayload(native: Native): void {
    if (!this.payloadAside) return;
    this.payloadAside = false;
    const result = native.fetchPayload(this.bytes);
    if (result < 0) throw errorOf(result, 'the data of a write');
  }

  /** Throws when the request is shorter than the structure its opcode promises. */
  require(argsBytes: number): void {
    if (this.length < ARGS + argsBytes) throw new FsError('EINVAL', 'the request is too short');
  }

  /** The NUL-terminated bytes at `offset`, not copied; they last as long as the request. */
  name(offset: number): Uint8Array {
    const end = this.bytes.indexOf(0, offset);
    if (end < offset || end >= this.length) throw new FsError('EINVAL', 'a name without an end');
    return this.bytes.subarray(offset, end);
  }

  /** Only the header: enough to answer the request later. */
  stub(): Request {
    const stub = new Request(this.bytes.slice(0, IN_HEADER.SIZE));
    stub.opcode = this.opcode;
    stub.unique = this.unique;
    stub.ino = this.ino;
    return stub;
  }

  /** The same request in memory of its own. */
  copy(): Request {
    const copy = new Request(this.bytes.slice(0, this.length));
    copy.decode(this.length);
    return copy;
  }
}
