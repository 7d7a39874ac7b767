/**
 * Runs commands on the engine over a recording device and on the model at once. What comes out is a history: every
 * write and flush, which versions of the model were under way at each of them, and what had been promised.
 */
import assert from 'node:assert/strict';
import type { BlockDevice } from '../../../src/block/device.js';
import { RecordingDevice } from '../../../src/crash/recording-device.js';
import type { LogEntry } from '../../../src/crash/write-log.js';
import { FsError } from '../../../src/errors.js';
import { Filesystem } from '../../../src/ext4/filesystem.js';
import { type IomapMapping, OP_WRITE, TYPE_MAPPED, TYPE_UNWRITTEN } from '../../../src/ext4/iomap.js';
import type { MountPolicy } from '../../../src/ext4/mount-policy.js';
import type { Command } from './commands.js';
import { Model, type Node, type Type } from './model.js';

const CRED = { uid: 0, gid: 0 };
/** Quotas are counted for each owner: names that begin alike have the same. */
const ownerOf = (name: string) => ({ uid: name.charCodeAt(0) * 1000, gid: name.charCodeAt(0) });
const RENAME_EXCHANGE = 2;
const FALLOCATE = { allocate: 0, keep: 1, zero: 0x10, punch: 0x03 } as const;
const SHIFT = { collapse: 0x08, insert: 0x20 } as const;
const EXTENTS_ONLY: ReadonlySet<Command['op']> = new Set(['allocate', 'keep', 'zero', 'collapse', 'insert']);
/** Commands that make the file they need. */
const CREATES: ReadonlySet<Command['op']> = new Set(['write', 'append', 'slow-write', 'allocate', 'keep', 'setxattr']);
const encoder = new TextEncoder();

/** What fsync had promised once so many entries of the log were issued. */
export interface Promised {
  readonly position: number;
  /** The oldest version that may be found. */
  readonly version: number;
  /** Content of a file is not older than this version, by the file's id. */
  readonly contents: ReadonlyMap<number, number>;
}

export interface Recorded {
  readonly log: readonly LogEntry[];
  readonly model: Model;
  readonly promised: readonly Promised[];
  /** How long the log was when the first command began. */
  readonly started: number;
  /** For each command: how long the log was when it was done, and the version then. */
  readonly blockSize: number;
  /** Each file's content is that of the version, to the byte. */
  readonly exact: boolean;
  readonly commands: readonly { readonly end: number; readonly version: number; readonly text: string }[];
}

interface SlowWrite {
  readonly node: Node;
  readonly token: number;
  readonly pieces: { readonly pos: number; readonly length: number; readonly mapping: IomapMapping }[];
  readonly data: Uint8Array;
  readonly start: number;
}

/** A read of a whole file that was mapped and not done yet. */
interface SlowRead {
  readonly node: Node;
  readonly path: string;
  readonly token: number;
  /** Version when it was mapped. */
  readonly version: number;
  readonly pieces: { readonly pos: number; readonly length: number; readonly addr: number }[];
}

export interface WorkloadOptions {
  readonly policy?: Partial<MountPolicy>;
  /** Attributes of the same length have the same value. */
  readonly equalAttributes?: boolean;
  /** The block size: each block of a larger write is kept or lost by itself. */
  readonly unitBytes?: number;
  /** Metadata kept in memory before a checkpoint begins by itself. */
  readonly checkpointBytes?: number;
  /** Records, in place of a device of its own. */
  readonly device?: RecordingDevice;
  /** Commits made before the recording is looked at, so that the log wraps. */
  readonly agedCommits?: number;
}

export class Workload {
  readonly device: RecordingDevice;
  readonly model = new Model();
  readonly fs: Filesystem;
  private readonly open: Node[] = [];
  private slow: SlowWrite[] = [];
  private exact: boolean;
  private readonly equalAttributes: boolean;
  /** The device is one that fails. */
  private readonly mayFail: boolean;
  private reads: SlowRead[] = [];
  private readonly promised: Promised[] = [];
  private started = 0;
  private readonly commands: { end: number; version: number; text: string }[] = [];
  private contents = new Map<number, number>();
  private promisedVersion = 0;
  private timers: (() => void)[] = [];
  private seconds = 1_700_000_000;
  private random = 1;
  private serial = 1;

  constructor(below: BlockDevice, options: WorkloadOptions = {}) {
    this.exact = options.policy?.journalsData === true;
    this.equalAttributes = options.equalAttributes === true;
    this.mayFail = options.device !== undefined;
    this.device = options.device ?? new RecordingDevice(below, options.unitBytes);
    this.fs = Filesystem.open(this.device, {
      checkpointBytes: options.checkpointBytes,
      // Each fsync that can be is a fast commit.
      worthCheckpoint: 0,
      policy: options.policy,
      cacheBytes: 1 << 20,
      env: {
        now: () => ({ seconds: this.seconds++, nanoseconds: 0 }),
        monotonicMs: () => 0,
        random32: () => {
          this.random = (Math.imul(this.random, 1664525) + 1013904223) >>> 0;
          return this.random;
        },
        sleep: () => {},
        schedule: (_delay, action) => {
          this.timers.push(action);
          return () => {
            this.timers = this.timers.filter((timer) => timer !== action);
          };
        },
      },
    });
  }

  /** Runs them all, then unmounts. */
  static async record(
    below: BlockDevice,
    commands: readonly Command[],
    options: WorkloadOptions = {},
  ): Promise<Recorded> {
    const workload = new Workload(below, options);
    for (let i = 0; i < (options.agedCommits ?? 0); i++) {
      await workload.run(i % 2 === 0 ? { op: 'chmod', path: '' } : { op: 'syncfs' });
    }
    workload.started = workload.device.log.length;
    for (const command of commands) await workload.run(command);
    return workload.finish();
  }

  async run(command: Command): Promise<void> {
    const refused = await this.attempt(command);
    this.note(`${describe(command)}${refused === null ? '' : ` (${refused})`}`);
  }

  async finish(): Promise<Recorded> {
    await this.attempt({ op: 'close' });
    await this.attempt({ op: 'land' });
    // Unlinked files that are still open stay orphans only in a crash; unmounting closes them all.
    try {
      this.fs.closeSync();
      if (this.aborted === null) this.promise(this.model.version, this.contents);
      this.device.mark('unmounted', { promise: true });
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      this.device.mark(`not unmounted cleanly: ${error.message}`, { promise: true });
    }
    this.note('unmount');
    await settled();
    return {
      log: this.device.log,
      model: this.model,
      promised: this.promised,
      started: this.started,
      blockSize: this.fs.volume.geometry.blockSize,
      exact: this.exact,
      commands: this.commands,
    };
  }

  /** The error that ended all writing, or null. */
  get aborted(): FsError | null {
    return this.fs.volume.journal.aborted;
  }

  private note(text: string): void {
    this.commands.push({ end: this.device.log.length, version: this.model.version, text });
  }

  /** Null, or the errno it was refused with. What the model allows, the engine may refuse only for lack of space. */
  private async attempt(command: Command): Promise<string | null> {
    try {
      return (await this.perform(command)) ? null : 'not applicable';
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      // Block maps know no unwritten blocks.
      if (error.code === 'EOPNOTSUPP' && EXTENTS_ONLY.has(command.op)) return error.code;
      assert.ok(this.mayRefuse(error), `${describe(command)}: refused with ${error.message}`);
      return error.code;
    }
  }

  /** Anything where I/O fails; ENOSPC on a disk that is nearly full, or when attributes are too many for a block. */
  private mayRefuse(error: FsError): boolean {
    if (this.mayFail) return ['EIO', 'EROFS', 'ENOSPC'].includes(error.code);
    if (error.code !== 'ENOSPC') return false;
    const { bfree, blocks, ffree } = this.fs.statfs();
    return error.message.includes('attributes') || bfree < blocks / 4 || ffree < 4;
  }

  /** False if the model says that the command makes no sense now. */
  private async perform(command: Command): Promise<boolean> {
    const { fs, model, device } = this;
    switch (command.op) {
      case 'steps':
        for (let i = 0; i < command.count; i++) device.step(i % 3 === 2);
        await settled();
        return true;
      case 'commit':
        fs.volume.journal.startCommit();
        return true;
      case 'checkpoint':
        fs.volume.journal.requestCheckpoint();
        return true;
      case 'idle':
        for (const timer of this.timers.splice(0)) timer();
        while (device.busy) {
          device.step();
          await settled();
        }
        return true;
      case 'close':
        this.close();
        return true;
      case 'land':
        this.land();
        return true;
      case 'syncfs':
        this.land();
        await this.sync(null);
        return true;
    }
    const parent = model.parentOf(command.path);
    const name = command.path.slice(command.path.lastIndexOf('/') + 1);
    if (parent === undefined) return false;
    let node = command.path === '' ? model.root : model.find(command.path);
    if (node === undefined && CREATES.has(command.op)) node = this.make('file', 0, parent, name);
    switch (command.op) {
      case 'create':
      case 'mkdir':
      case 'symlink':
        if (node !== undefined) return false;
        this.make(
          command.op === 'create' ? 'file' : command.op === 'mkdir' ? 'directory' : 'symlink',
          command.op === 'symlink' ? command.length : 0,
          parent,
          name,
        );
        return true;
      case 'link':
      case 'rename':
      case 'exchange':
        return node !== undefined && this.move(command, parent, name, node);
      case 'populate':
        if (node?.type !== 'directory') return false;
        for (let i = 0; i < command.count; i++) {
          const child = `a-name-that-fills-a-directory-block-soon-${i}`;
          if (!node.entries.has(child)) this.make('file', 0, node, child);
        }
        return true;
      case 'rmdir':
        if (node?.type !== 'directory' || node.entries.size > 0) return false;
        fs.evict([fs.rmdir(parent.ino, bytes(name))]);
        parent.entries.delete(name);
        model.commit([parent, node]);
        return true;
      case 'unlink':
        if (node === undefined || node.type === 'directory') return false;
        fs.unlink(parent.ino, bytes(name));
        parent.entries.delete(name);
        node.links--;
        model.commit([parent, node]);
        if (node.links === 0) this.gone(node, command.open);
        return true;
      case 'fsync':
        if (node === undefined) return false;
        this.landOf(node);
        await this.sync(node);
        return true;
      case 'chmod': {
        if (node === undefined || node.type === 'symlink') return false;
        const mode = node === model.root ? node.mode : node.mode ^ 0o022;
        // What it uses changes hands, too.
        fs.setattr(node.ino, { mode, uid: mode });
        node.mode = mode;
        model.commit([node]);
        return true;
      }
      case 'setxattr': {
        if (node === undefined || node.type === 'symlink') return false;
        const value = new Uint8Array(command.length).fill(
          this.equalAttributes ? command.length & 0xff : this.serial++ & 0xff,
        );
        fs.setxattr(node.ino, bytes(command.name), value, 0);
        node.xattrs.set(command.name, value);
        model.commit([node]);
        return true;
      }
      case 'removexattr':
        if (node?.xattrs.has(command.name) !== true) return false;
        fs.removexattr(node.ino, bytes(command.name));
        node.xattrs.delete(command.name);
        model.commit([node]);
        return true;
    }
    if (node?.type !== 'file') return false;
    if (command.op === 'slow-read') {
      // What is in the log or in the inode is read at once, from memory.
      if (fs.readsThroughEngine(node.ino)) return false;
      this.beginRead(node, command.path);
      return true;
    }
    this.landOf(node);
    switch (command.op) {
      case 'write':
        this.beginWrite(node, command.pos, command.length);
        this.land(node);
        return true;
      case 'append':
        this.beginWrite(node, node.content.length, command.length);
        this.land(node);
        return true;
      case 'slow-write':
        this.beginWrite(node, command.pos, command.length);
        return true;
      case 'truncate':
        fs.setattr(node.ino, { size: command.size });
        node.content = resized(node.content, command.size);
        model.commit([node]);
        return true;
      case 'collapse':
      case 'insert':
        return this.shift(command.op, node, command.pos, command.length);
      default:
        return this.fallocate(command.op, node, command.pos, command.length);
    }
  }

  private make(type: Type, length: number, parent: Node, name: string): Node {
    const { fs, model } = this;
    let node: Node;
    if (type === 'directory') {
      node = model.make('directory', fs.mkdir(parent.ino, bytes(name), 0o40755, ownerOf(name)), 0o755);
    } else if (type === 'symlink') {
      const target = new Uint8Array(length).fill(0x61 + (this.serial++ % 26));
      node = model.make('symlink', fs.symlink(parent.ino, bytes(name), target, ownerOf(name)), 0o777, target);
    } else {
      node = model.make('file', fs.create(parent.ino, bytes(name), 0o100644, ownerOf(name)), 0o644);
    }
    parent.entries.set(name, node);
    model.commit([parent, node]);
    return node;
  }

  private move(command: Command & { path: string; to: string }, parent: Node, name: string, node: Node): boolean {
    const { fs, model } = this;
    const target = model.find(command.to);
    const newParent = model.parentOf(command.to);
    const newName = command.to.slice(command.to.lastIndexOf('/') + 1);
    if (newParent === undefined || target === node) return false;
    if (command.op === 'link') {
      if (target !== undefined || node.type === 'directory') return false;
      fs.link(node.ino, newParent.ino, bytes(newName));
      node.links++;
      newParent.entries.set(newName, node);
      model.commit([newParent, node]);
      return true;
    }
    // A directory must not become its own descendant.
    if (`${command.to}/`.startsWith(`${command.path}/`) || `${command.path}/`.startsWith(`${command.to}/`))
      return false;
    if (command.op === 'exchange') {
      if (target === undefined) return false;
      fs.rename(parent.ino, bytes(name), newParent.ino, bytes(newName), RENAME_EXCHANGE, CRED);
      parent.entries.set(name, target);
      newParent.entries.set(newName, node);
      model.commit([parent, newParent, node, target]);
      return true;
    }
    if (target !== undefined) {
      if ((target.type === 'directory') !== (node.type === 'directory')) return false;
      if (target.entries.size > 0) return false;
    }
    fs.rename(parent.ino, bytes(name), newParent.ino, bytes(newName), 0, CRED);
    parent.entries.delete(name);
    newParent.entries.set(newName, node);
    if (target !== undefined) target.links--;
    model.commit(target === undefined ? [parent, newParent, node] : [parent, newParent, node, target]);
    if (target !== undefined && (target.links === 0 || target.type === 'directory')) this.gone(target, false);
    return true;
  }

  private gone(node: Node, stillOpen: boolean): void {
    if (stillOpen) {
      this.open.push(node);
      return;
    }
    this.landOf(node);
    this.fs.evict([node.ino]);
  }

  private close(): void {
    for (const node of this.open.splice(0)) {
      this.landOf(node);
      this.fs.evict([node.ino]);
    }
  }

  private fallocate(op: keyof typeof FALLOCATE, node: Node, pos: number, length: number): boolean {
    const end = pos + length;
    // Edges, middle and size are steps of their own.
    this.exact = false;
    try {
      this.fs.fallocate(node.ino, FALLOCATE[op], pos, length);
    } catch (error) {
      // Its edges are zeroed in place, before anything else.
      this.model.leaveUndefined(node, pos, end);
      throw error;
    }
    const { content } = node;
    if (op !== 'keep') {
      const size = op === 'punch' ? content.length : Math.max(content.length, end);
      const after = resized(content, size);
      if (op !== 'allocate') after.fill(0, Math.min(pos, size), Math.min(end, size));
      node.content = after;
    }
    this.model.commit([node]);
    return true;
  }

  /**
   * The oracle follows a byte by its place in the file: nothing is under way when places change, and nothing is overwritten
   * before that is durable.
   */
  private async shift(op: keyof typeof SHIFT, node: Node, pos: number, length: number): Promise<boolean> {
    const { fs, model } = this;
    const { blockSize, clusterRatio } = fs.volume.geometry;
    const unit = blockSize * clusterRatio;
    const from = Math.floor(pos / unit) * unit;
    const count = Math.ceil(length / unit) * unit;
    const { content } = node;
    if (op === 'collapse' ? from + count >= content.length : from >= content.length) return false;
    for (const read of this.reads.splice(0)) this.finishRead(read);
    fs.fallocate(node.ino, SHIFT[op], from, count);
    const behind = op === 'collapse' ? content.subarray(from + count) : content.subarray(from);
    const after = new Uint8Array(content.length + (op === 'collapse' ? -count : count));
    after.set(content.subarray(0, from));
    after.set(behind, after.length - behind.length);
    node.content = after;
    model.commit([node]);
    try {
      await this.sync(node);
    } catch (error) {
      model.leaveUndefined(node, 0, Number.POSITIVE_INFINITY);
      throw error;
    }
    return true;
  }

  // File data

  private beginWrite(node: Node, pos: number, length: number): void {
    const { fs } = this;
    const data = fillFor(this.serial++, pos, length);
    if (fs.writesThroughEngine(node.ino, pos, length)) {
      this.writeJournaled(node, pos, data);
      return;
    }
    const token = fs.dataStarted();
    const slow: SlowWrite = { node, token, pieces: [], data, start: pos };
    this.slow.push(slow);
    try {
      for (let done = 0; done < length; ) {
        const at = pos + done;
        const mapping = fs.iomapBegin(node.ino, at, length - done, OP_WRITE);
        const piece = Math.min(length - done, mapping.offsetBytes + mapping.lengthBytes - at);
        slow.pieces.push({ pos: at, length: piece, mapping });
        done += piece;
      }
    } catch (error) {
      if (slow.pieces.length > 0) this.land(node);
      else {
        this.slow = this.slow.filter((each) => each !== slow);
        fs.dataFinished(token);
      }
      throw error;
    }
  }

  private writeJournaled(node: Node, pos: number, data: Uint8Array): void {
    try {
      this.fs.writeJournaled(node.ino, pos, data, OP_WRITE, 0);
    } catch (error) {
      this.model.leaveUndefined(node, pos, pos + data.length);
      this.exact = false;
      throw error;
    }
    const after = resized(node.content, Math.max(node.content.length, pos + data.length));
    after.set(data, pos);
    node.content = after;
    this.model.commit([node]);
  }

  private landOf(node: Node): void {
    if (this.slow.some((write) => write.node === node)) this.land(node);
  }

  /** The bytes of writes under way reach the device, and the engine hears of it. */
  private land(only?: Node): void {
    const landing = this.slow.filter(({ node }) => only === undefined || node === only);
    this.slow = this.slow.filter((write) => !landing.includes(write));
    for (const write of landing) {
      try {
        this.landOne(write);
      } catch (error) {
        this.model.leaveUndefined(write.node, write.start, write.start + write.data.length);
        this.fs.dataFinished(write.token);
        throw error;
      }
    }
    if (only === undefined) for (const read of this.reads.splice(0)) this.finishRead(read);
  }

  private landOne({ node, token, pieces, data, start }: SlowWrite): void {
    const { fs, device, model } = this;
    const { blockSize } = fs.volume.geometry;
    for (const { pos, length, mapping } of pieces) {
      const addr = mapping.addrBytes + (pos - mapping.offsetBytes);
      const part = data.subarray(pos - start, pos - start + length);
      if (mapping.type === TYPE_UNWRITTEN) {
        // Conversion exposes whole blocks: what the write does not cover of its first and last must be zeroes.
        const head = pos % blockSize;
        const tail = (blockSize - ((pos + length) % blockSize)) % blockSize;
        const padded = new Uint8Array(head + length + tail);
        padded.set(part, head);
        device.write(addr - head, padded);
      } else {
        device.write(addr, part);
      }
    }
    for (const { pos, length, mapping } of pieces) {
      fs.iomapIoend(node.ino, pos, length, mapping.addrBytes + (pos - mapping.offsetBytes), 0, 0);
      const grows = pos + length > node.content.length;
      const after = resized(node.content, Math.max(node.content.length, pos + length));
      after.set(data.subarray(pos - start, pos - start + length), pos);
      node.content = after;
      model.commit([node], grows || mapping.type === TYPE_UNWRITTEN ? 'metadata' : 'data');
    }
    fs.dataFinished(token);
  }

  private beginRead(node: Node, path: string): void {
    const { fs, model } = this;
    const pieces: SlowRead['pieces'] = [];
    const size = node.content.length;
    for (let pos = 0; pos < size; ) {
      const mapping = fs.iomapBegin(node.ino, pos, size - pos, 0);
      const length = Math.min(size, mapping.offsetBytes + mapping.lengthBytes) - pos;
      const addr = mapping.addrBytes + (pos - mapping.offsetBytes);
      if (mapping.type === TYPE_MAPPED) pieces.push({ pos, length, addr });
      pos += length;
    }
    this.reads.push({ node, path, token: fs.dataStarted(), version: model.version, pieces });
  }

  /** What a read finds is the file as it was at some moment while it was under way: never what its blocks became. */
  private finishRead({ node, path, token, version, pieces }: SlowRead): void {
    const { fs, device, model } = this;
    const history = model.contents.get(node.id) ?? [];
    const contents = history
      .filter((_, i) => i + 1 >= history.length || history[i + 1].version > version)
      .map(({ content }) => content);
    for (const { pos, length, addr } of pieces) {
      const found = new Uint8Array(length);
      device.read(addr, found);
      const strange = found.findIndex((byte, i) => !contents.some((content) => (content[pos + i] ?? 0) === byte));
      assert.ok(strange < 0, `a read of ${path} found at ${pos + strange} what was never there`);
    }
    fs.dataFinished(token);
  }

  // Promises

  /** fsync of one inode or of everything; the device works until it is answered. */
  private async sync(node: Node | null): Promise<void> {
    const { model, device } = this;
    const { version } = model;
    let answer: FsError | null | undefined;
    const tid = node === null ? undefined : this.fs.volume.lastChange(node.ino);
    this.fs.sync(node === null ? null : node.ino, (error) => {
      answer = error;
    });
    await settled();
    while (answer === undefined) {
      assert.ok(device.busy, 'an fsync waits, and no I/O is under way');
      device.step();
      await settled();
    }
    if (answer !== null) throw answer;
    const contents = new Map(this.contents);
    if (node === null) for (const id of model.contents.keys()) contents.set(id, version);
    else if (node.type === 'file') contents.set(node.id, version);
    this.promise(node === null ? version : Math.max(this.promisedVersion, node.changedIn), contents);
    device.mark(tid === undefined ? 'synced' : `synced tid ${tid}`, { promise: true });
  }

  private promise(version: number, contents: Map<number, number>): void {
    this.promisedVersion = Math.max(this.promisedVersion, version);
    this.contents = contents;
    this.promised.push({ position: this.device.log.length + 1, version: this.promisedVersion, contents });
  }
}

function bytes(name: string): Uint8Array {
  return encoder.encode(name);
}

/** Content that tells where it belongs: no two writes, and no two places in one block, look alike. */
function fillFor(serial: number, pos: number, length: number): Uint8Array {
  const data = new Uint8Array(length);
  for (let i = 0; i < length; i++) data[i] = ((serial * 31) ^ (((pos + i) >>> 6) * 7)) & 0xff || 1;
  return data;
}

function resized(content: Uint8Array, size: number): Uint8Array {
  const after = new Uint8Array(size);
  after.set(content.subarray(0, Math.min(size, content.length)));
  return after;
}

/** Answers are given from the microtask queue. */
async function settled(): Promise<void> {
  for (let i = 0; i < 4; i++) await null;
}

export function describe(command: Command): string {
  const { op, ...rest } = command;
  return `${op} ${Object.values(rest).join(' ')}`.trim();
}
