/**
 * A filesystem in memory with the engine's face, for tests of the FUSE session alone: names and attributes in maps, file
 * data on a device given block by block, unwritten until `iomapIoend` as in the real one.
 */
import type { BlockDevice } from '../../src/block/device.js';
import { type ErrnoName, FsError } from '../../src/errors.js';
import type { InodeStat, SetattrChanges } from '../../src/ext4/filesystem.js';
import {
  IOEND_UPDATE_TIMES,
  type IomapMapping,
  OP_WRITE,
  OP_WRITEBACK,
  TYPE_HOLE,
  TYPE_MAPPED,
  TYPE_UNWRITTEN,
} from '../../src/ext4/iomap.js';
import type { FilesystemStat } from '../../src/ext4/statfs.js';
import type { Timestamp } from '../../src/ext4/volume.js';
import type { Engine } from '../../src/fuse/engine.js';

interface Node extends InodeStat {
  readonly children: Map<string, number>;
  readonly blocks: Map<number, { addr: number; written: boolean }>;
  readonly xattrs: Map<string, Uint8Array>;
  target: Uint8Array;
  parent: number;
}

const key = (name: Uint8Array) => Buffer.from(name).toString('latin1');
const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;

function now(): Timestamp {
  const ms = Date.now();
  return { seconds: Math.floor(ms / 1000), nanoseconds: (ms % 1000) * 1_000_000 };
}

export class FakeFs implements Engine {
  readonly readOnly = false;
  /** What was called that leaves no trace elsewhere. */
  readonly evicted: number[] = [];
  syncs = 0;
  throttle = false;
  private readonly nodes = new Map<number, Node>();
  private readonly device: BlockDevice;
  private readonly blockSize: number;
  private readonly blockCount: number;
  private tellMoved: (ino: number | null) => void = () => {};
  /** How often data was written without this class. */
  writesBeside = () => 0;
  /** Mappings asked for. */
  maps = 0;
  private nextIno = 11;
  private nextBlock = 1;

  constructor(blockSize: number, device: BlockDevice) {
    this.device = device;
    this.blockSize = blockSize;
    this.blockCount = Math.floor(device.sizeBytes / blockSize);
    const root = this.make(S_IFDIR | 0o755, { uid: 0, gid: 0 });
    this.nodes.delete(root.ino);
    root.ino = 2;
    root.parent = 2;
    root.nlink = 2;
    this.nodes.set(2, root);
  }

  private node(ino: number): Node {
    const node = this.nodes.get(ino);
    if (node === undefined) throw new FsError('ESTALE');
    return node;
  }

  private make(mode: number, cred: { uid: number; gid: number }): Node {
    const ino = this.nextIno++;
    const time = now();
    const node: Node = {
      ino,
      mode,
      nlink: 1,
      uid: cred.uid,
      gid: cred.gid,
      size: 0,
      blocks512: 0,
      rdev: 0,
      atime: time,
      mtime: time,
      ctime: time,
      crtime: time,
      generation: 1,
      flags: 0,
      children: new Map(),
      blocks: new Map(),
      xattrs: new Map(),
      target: new Uint8Array(0),
      parent: 0,
    };
    this.nodes.set(ino, node);
    return node;
  }

  private add(parent: number, name: Uint8Array, node: Node): number {
    const directory = this.node(parent);
    if (name.length > 255) this.refuse(node, 'ENAMETOOLONG');
    if (directory.children.has(key(name))) this.refuse(node, 'EEXIST');
    directory.children.set(key(name), node.ino);
    directory.mtime = directory.ctime = now();
    node.parent = parent;
    return node.ino;
  }

  private refuse(node: Node, code: ErrnoName): never {
    this.nodes.delete(node.ino);
    throw new FsError(code);
  }

  foldsCase(): boolean {
    return false;
  }
  atomically<T>(_credits: number, work: () => T): T {
    return work();
  }
  byHandle(ino: number): number {
    return ino;
  }
  actAs(): void {}

  lookup(parent: number, name: Uint8Array): number {
    if (name.length > 255) throw new FsError('ENAMETOOLONG');
    return this.node(parent).children.get(key(name)) ?? 0;
  }
  create(parent: number, name: Uint8Array, mode: number, cred: { uid: number; gid: number }): number {
    return this.add(parent, name, this.make(mode, cred));
  }
  mkdir(parent: number, name: Uint8Array, mode: number, cred: { uid: number; gid: number }): number {
    const ino = this.add(parent, name, this.make((mode & 0o7777) | S_IFDIR, cred));
    this.node(ino).nlink = 2;
    this.node(parent).nlink++;
    return ino;
  }
  mknod(parent: number, name: Uint8Array, mode: number, rdev: number, cred: { uid: number; gid: number }): number {
    const ino = this.add(parent, name, this.make(mode, cred));
    this.node(ino).rdev = rdev;
    return ino;
  }
  symlink(parent: number, name: Uint8Array, target: Uint8Array, cred: { uid: number; gid: number }): number {
    const ino = this.add(parent, name, this.make(0o120777, cred));
    this.node(ino).target = target.slice();
    this.node(ino).size = target.length;
    return ino;
  }
  link(ino: number, parent: number, name: Uint8Array): void {
    if (this.node(parent).children.has(key(name))) throw new FsError('EEXIST');
    this.node(parent).children.set(key(name), ino);
    this.node(ino).nlink++;
  }
  private drop(parent: number, name: Uint8Array): Node {
    const ino = this.lookup(parent, name);
    if (ino === 0) throw new FsError('ENOENT');
    this.node(parent).children.delete(key(name));
    return this.node(ino);
  }
  unlink(parent: number, name: Uint8Array): number {
    const node = this.drop(parent, name);
    node.nlink--;
    node.ctime = now();
    return node.ino;
  }
  rmdir(parent: number, name: Uint8Array): number {
    const ino = this.lookup(parent, name);
    if (ino !== 0 && this.node(ino).children.size > 0) throw new FsError('ENOTEMPTY');
    const node = this.drop(parent, name);
    node.nlink = 0;
    this.node(parent).nlink--;
    return node.ino;
  }
  rename(
    parent: number,
    name: Uint8Array,
    newParent: number,
    newName: Uint8Array,
    flags: number,
  ): { replaced: number } {
    const target = this.lookup(newParent, newName);
    if ((flags & 1) !== 0 && target !== 0) throw new FsError('EEXIST');
    if ((flags & 6) !== 0) throw new FsError('EINVAL');
    const node = this.drop(parent, name);
    if (target !== 0) this.node(target).nlink -= (this.node(target).mode & S_IFMT) === S_IFDIR ? 2 : 1;
    this.node(newParent).children.set(key(newName), node.ino);
    node.parent = newParent;
    return { replaced: target };
  }
  tmpfile(_parent: number, mode: number, cred: { uid: number; gid: number }): number {
    const node = this.make(mode, cred);
    node.nlink = 0;
    return node.ino;
  }
  readdir(
    ino: number,
    cursor: number,
    visit: (name: Uint8Array, ino: number, fileType: number, next: number) => boolean,
  ): void {
    const node = this.node(ino);
    const types: Record<number, number> = { 4: 2, 8: 1, 10: 7, 2: 3, 6: 4, 1: 5, 12: 6 };
    const entries: [string, number][] = [['.', ino], ['..', node.parent], ...node.children];
    for (let i = cursor; i < entries.length; i++) {
      const [name, child] = entries[i];
      const type = types[(this.node(child).mode >> 12) & 15] ?? 0;
      if (!visit(Buffer.from(name, 'latin1'), child, type, i + 1)) return;
    }
  }
  readlink(ino: number): Uint8Array {
    return this.node(ino).target;
  }

  stat(ino: number): InodeStat {
    const node = this.node(ino);
    node.blocks512 = (node.blocks.size * this.blockSize) / 512;
    return node;
  }
  setattr(ino: number, changes: SetattrChanges): void {
    this.tellMoved(ino);
    const node = this.node(ino);
    const time = (value: Timestamp | 'now' | undefined, old: Timestamp) =>
      value === undefined ? old : value === 'now' ? now() : value;
    if (changes.size !== undefined) {
      node.size = changes.size;
      for (const lblk of [...node.blocks.keys()]) {
        if (lblk * this.blockSize >= changes.size) node.blocks.delete(lblk);
      }
      const tail = changes.size % this.blockSize;
      const last = node.blocks.get(Math.floor(changes.size / this.blockSize));
      if (tail !== 0 && last !== undefined) this.device.write(last.addr + tail, new Uint8Array(this.blockSize - tail));
    }
    if (changes.mode !== undefined) node.mode = (node.mode & S_IFMT) | (changes.mode & 0o7777);
    node.uid = changes.uid ?? node.uid;
    node.gid = changes.gid ?? node.gid;
    node.atime = time(changes.atime, node.atime);
    node.mtime = time(changes.mtime, node.mtime);
    node.ctime = time(changes.ctime ?? 'now', node.ctime);
  }
  touchAtime(): void {}
  isUnlinked(ino: number): boolean {
    return this.node(ino).nlink <= 0;
  }
  evict(inos: readonly number[]): void {
    this.evicted.push(...inos);
    for (const ino of inos) this.nodes.delete(ino);
  }

  getxattr(ino: number, name: Uint8Array): Uint8Array | null {
    return this.node(ino).xattrs.get(key(name)) ?? null;
  }
  listxattr(ino: number): Uint8Array {
    return Buffer.from([...this.node(ino).xattrs.keys()].map((name) => `${name}\0`).join(''), 'latin1');
  }
  setxattr(ino: number, name: Uint8Array, value: Uint8Array, flags: number): void {
    const { xattrs } = this.node(ino);
    if (flags === 1 && xattrs.has(key(name))) throw new FsError('EEXIST');
    if (flags === 2 && !xattrs.has(key(name))) throw new FsError('ENODATA');
    xattrs.set(key(name), value.slice());
  }
  removexattr(ino: number, name: Uint8Array): void {
    if (!this.node(ino).xattrs.delete(key(name))) throw new FsError('ENODATA');
  }

  iomapBegin(ino: number, posBytes: number, countBytes: number, opflags: number): IomapMapping {
    this.maps++;
    const { blocks } = this.node(ino);
    const { blockSize } = this;
    const lblk = Math.floor(posBytes / blockSize);
    const last = Math.ceil((posBytes + countBytes) / blockSize);
    if ((opflags & (OP_WRITE | OP_WRITEBACK)) !== 0) {
      for (let at = lblk; at < last; at++) {
        if (blocks.has(at)) continue;
        if (this.nextBlock >= this.blockCount) {
          if (at > lblk) break;
          throw new FsError('ENOSPC');
        }
        blocks.set(at, { addr: this.nextBlock++ * blockSize, written: false });
      }
    }
    const first = blocks.get(lblk);
    let count = 1;
    for (; lblk + count < last; count++) {
      const next = blocks.get(lblk + count);
      if (first === undefined ? next !== undefined : next?.addr !== first.addr + count * blockSize) break;
      if (next?.written !== first?.written) break;
    }
    return {
      offsetBytes: lblk * blockSize,
      lengthBytes: count * blockSize,
      addrBytes: first?.addr ?? -1,
      type: first === undefined ? TYPE_HOLE : first.written ? TYPE_MAPPED : TYPE_UNWRITTEN,
      flags: 0,
    };
  }
  iomapEnd(): void {}
  iomapIoend(ino: number, posBytes: number, writtenBytes: number, _addrBytes: number, flags: number): number {
    const node = this.node(ino);
    const { blockSize } = this;
    for (let at = Math.floor(posBytes / blockSize); at * blockSize < posBytes + writtenBytes; at++) {
      const block = node.blocks.get(at);
      if (block !== undefined) block.written = true;
    }
    node.size = Math.max(node.size, posBytes + writtenBytes);
    if ((flags & IOEND_UPDATE_TIMES) !== 0) node.mtime = node.ctime = now();
    return node.size;
  }
  fallocate(ino: number, mode: number, offsetBytes: number, lengthBytes: number): void {
    this.tellMoved(ino);
    const node = this.node(ino);
    if ((mode & 2) !== 0) {
      const first = Math.ceil(offsetBytes / this.blockSize);
      for (let at = first; (at + 1) * this.blockSize <= offsetBytes + lengthBytes; at++) node.blocks.delete(at);
      return;
    }
    if (mode > 1) throw new FsError('EOPNOTSUPP');
    this.iomapBegin(ino, offsetBytes, lengthBytes, OP_WRITE);
    if (mode === 0) node.size = Math.max(node.size, offsetBytes + lengthBytes);
  }
  seek(ino: number, offsetBytes: number, whence: 'data' | 'hole'): number {
    const { blocks, size } = this.node(ino);
    if (offsetBytes >= size) throw new FsError('ENXIO');
    for (let pos = offsetBytes; pos < size; pos = (Math.floor(pos / this.blockSize) + 1) * this.blockSize) {
      const data = blocks.get(Math.floor(pos / this.blockSize))?.written === true;
      if (data === (whence === 'data')) return pos;
    }
    if (whence === 'hole') return size;
    throw new FsError('ENXIO');
  }

  statfs(): FilesystemStat {
    const free = this.blockCount - this.nextBlock;
    return {
      blockSize: this.blockSize,
      blocks: this.blockCount,
      bfree: free,
      bavail: free,
      files: 1000,
      ffree: 1000 - this.nodes.size,
      nameMax: 255,
    };
  }
  sync(_ino: number | null, whenDone: (error: FsError | null) => void): void {
    this.syncs++;
    setImmediate(() => whenDone(null));
  }
  needsThrottle(): boolean {
    return this.throttle;
  }
  getFlags(): number {
    return 0;
  }

  getProject(): number {
    return 0;
  }

  getLabel(): Uint8Array {
    return new Uint8Array();
  }

  trim(): number {
    return 0;
  }

  setFlags(): void {}
  setProject(): void {}
  setGeneration(): void {}
  setLabel(): void {}
  shutDown(): void {}

  readsThroughEngine(): boolean {
    return false;
  }
  writesThroughEngine(): boolean {
    return false;
  }
  bringDataHome(): void {}

  journalsData(): boolean {
    return false;
  }

  writeJournaled(): void {
    throw new Error('nothing is journaled here');
  }

  readData(): void {
    throw new Error('nothing is journaled here');
  }

  whenSpaceReturns(): boolean {
    return false;
  }

  onceReady(tell: () => void): void {
    setTimeout(() => {
      this.throttle = false;
      tell();
    }, 1);
  }
  dataStarted(): number {
    return 0;
  }
  dataFinished(): void {}
  beforeDataMoves(tell: (ino: number | null) => void): void {
    this.tellMoved = tell;
  }
  iomapConvert(): void {}
  countWritesBeside(count: () => number): void {
    this.writesBeside = count;
  }
  atimeSettledUntil(): number {
    return Number.POSITIVE_INFINITY;
  }
  endOfOperation(): void {}
  freeze(): void {}
  relieveMemory(): void {}
  thaw(): void {}
  reportCorruption(): void {}
  abort(error: FsError): void {
    process.stderr.write(`aborted: ${error.message}\n`);
  }
  close(whenDone: (error: FsError | null) => void): void {
    queueMicrotask(() => whenDone(null));
  }
}
