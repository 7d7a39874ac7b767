/**
 * One mounted filesystem being served: reads requests, runs operations, waits where something must be waited for, and
 * ends cleanly. Everything happens on the event loop's thread; only bytes of files move elsewhere.
 */
import type { BlockDevice } from '../block/device.js';
import { Errno, FsError } from '../errors.js';
import type { Ino } from '../ext4/inode.js';
import { type Native, requireNative, whenJobDone } from '../native.js';
import type { Context, SessionSettings } from './context.js';
import { DataPath, isWriteback } from './data-path.js';
import { DeviceRequests } from './device-requests.js';
import { type Entry, entryOf } from './dispatch.js';
import type { Engine } from './engine.js';
import { ErrorTranslator } from './errors.js';
import { MAX_WRITE, type Negotiated, NOTHING_NEGOTIATED } from './init.js';
import { invalidation } from './invalidation.js';
import { LostWrites } from './lost-writes.js';
import { NodeTable } from './node-table.js';
import { Opcode } from './opcodes.js';
import { Patience } from './patience.js';
import { ReplyWriter } from './reply.js';
import type { Request } from './request.js';
import { DRAINED, FULL, type RequestSource, SERVED } from './request-source.js';
import { RingRequests } from './ring-requests.js';

/** One turn of the event loop serves at most so much, so that completions and timers are not kept waiting. */
const REQUESTS_PER_TURN = 64;
const TURN_MS = 2;
/** Inodes freed in one step of the journal. */
const EVICTED_TOGETHER = 32;
/** Space that others free meanwhile may be taken again before a request gets it. */
const SPACE_RETRIES = 8;
/** A waiting request up to this size gives its buffer back and waits as a copy. */
const COPY_BYTES = 64 << 10;

export interface SessionOptions extends Partial<SessionSettings> {
  readonly fs: Engine;
  /** The mounted connection, as `mountFuse` returns it. The session closes it. */
  readonly fuseFd: number;
  /** What the filesystem lies on; its bytes are moved directly where it has a descriptor. */
  readonly device: BlockDevice;
  readonly blockSize: number;
  readonly log?: (line: string) => void;
  /** The kernel has accepted the connection: the mount can be used. */
  readonly onBegin?: () => void;
  /** Unmounted, and the filesystem closed; the error is what closing met. */
  readonly onEnd?: (error: FsError | null) => void;
}

export class Session implements Context {
  readonly fs: Engine;
  readonly nodes = new NodeTable();
  readonly reply: ReplyWriter;
  readonly data: DataPath;
  readonly lostWrites = new LostWrites();
  readonly settings: SessionSettings;
  readonly blockSize: number;
  negotiated: Negotiated = NOTHING_NEGOTIATED;
  readonly log: (line: string) => void;

  private readonly native: Native;
  private readonly fuseFd: number;
  private readonly options: SessionOptions;
  private readonly errors: ErrorTranslator;
  private readonly device: DeviceRequests;
  /** Requests come over io_uring as well: nearly all of them. */
  private ring: RingRequests | null = null;
  private readonly patience = new Patience();
  private lastRequestMs = 0;
  private paused = false;
  private reading = false;
  /** Requests that wait until the log takes changes again, oldest first. */
  private throttled: Request[] = [];
  private readyAsked = false;
  /** Requests that wait for {@link thaw}; null while the filesystem is not frozen. */
  private frozen: Request[] | null = null;
  private connected = true;
  private isShutDown = false;
  private closeBegun = false;
  private closed = false;
  private ended = false;
  private closeError: FsError | null = null;

  constructor(options: SessionOptions) {
    this.native = requireNative();
    this.options = options;
    this.fs = options.fs;
    this.fuseFd = options.fuseFd;
    this.blockSize = options.blockSize;
    this.log = options.log ?? (() => {});
    this.settings = {
      acl: options.acl ?? false,
      permissionsChecked: options.permissionsChecked ?? true,
      userXattr: options.userXattr ?? true,
      dirsync: options.dirsync ?? false,
      flushesReplacing: options.flushesReplacing ?? true,
      dataErrorAborts: options.dataErrorAborts ?? false,
      writeback: options.writeback ?? true,
      ioUring: options.ioUring ?? false,
      onlyFor: options.onlyFor ?? null,
      secondsOnly: options.secondsOnly ?? false,
    };
    this.device = new DeviceRequests(this.native, options.fuseFd, this.log);
    this.reply = new ReplyWriter(this.native, options.fuseFd, MAX_WRITE);
    this.errors = new ErrorTranslator(options.fs, this.log);
    const { fuseFd, device, blockSize, fs } = options;
    this.data = new DataPath(this.native, fuseFd, device, blockSize, fs, (ino, error) => this.lost(ino, error));
  }

  /** Begins to serve; keeps the process alive until unmounted. */
  start(): void {
    const result = this.native.pollStart(this.fuseFd, () => this.onReadable(this.device), -1);
    if (result < 0) throw new Error(`cannot wait for requests: errno ${-result}`);
  }

  /** Unmounted, or about to be. */
  get closing(): boolean {
    return this.closeBegun;
  }

  /** Milliseconds since the last request came in. */
  get idleMs(): number {
    return performance.now() - this.lastRequestMs;
  }

  /** Answers a request that did not come from the kernel. */
  serve(request: Request): void {
    this.handle(request);
    this.afterRequests();
  }

  /** Serves what is there. Returns for how many microseconds more is worth waiting for. */
  private onReadable(source: RequestSource): number {
    if (!this.connected || this.reading) return 0;
    this.reading = true;
    const began = performance.now();
    this.patience.woken(began);
    this.lastRequestMs = began;
    let served = 0;
    let drained = false;
    while (served < REQUESTS_PER_TURN && this.connected) {
      const request = source.next();
      if (request === SERVED) {
        served++;
        this.data.servedBeside();
        if (performance.now() - began > TURN_MS) break;
        continue;
      }
      if (typeof request === 'number') {
        if (request === DRAINED) drained = true;
        else if (request === FULL) this.pause(true);
        else this.connectionEnded(-request);
        break;
      }
      served++;
      this.handle(request);
      if (!request.held) source.release(request);
      // The clock costs as much as a short request.
      if ((served & 7) === 0 && performance.now() - began > TURN_MS) break;
    }
    this.reading = false;
    this.data.servedBeside();
    if (served > 0 && !this.closeBegun) this.afterRequests();
    if (!drained) return 0;
    return this.patience.wait(performance.now());
  }

  private pause(paused: boolean): void {
    if (this.paused === paused || !this.connected) return;
    this.paused = paused;
    this.native.pollPause(this.fuseFd, paused);
  }

  /** Runs one request; afterwards it has been answered, or is held, or waits as a copy. */
  private handle(request: Request): void {
    this.data.settle();
    const entry = entryOf(request.opcode);
    if (this.isShutDown && !entry?.lettingGo) {
      this.reply.status(request, Errno.EIO);
      return;
    }
    if (entry === undefined) {
      this.reply.status(request, Errno.ENOSYS);
      return;
    }
    const { onlyFor } = this.settings;
    if (onlyFor !== null && request.cred.uid !== 0 && request.cred.uid !== onlyFor && !entry.forOpenFiles) {
      this.reply.status(request, Errno.EACCES);
      return;
    }
    if (entry.mutates(request) && this.mustWait(request)) return;
    if (entry.names && this.settings.dirsync) this.runDurably(entry, request);
    else this.run(entry, request);
  }

  /** True if the request, which changes something, now waits: for {@link thaw}, or until the log takes more. */
  private mustWait(request: Request): boolean {
    if (this.frozen !== null) {
      this.frozen.push(this.keep(request, Number.POSITIVE_INFINITY));
      return true;
    }
    if (this.throttled.length === 0 && !this.fs.needsThrottle()) return false;
    this.throttled.push(this.keep(request));
    this.askReady();
    return true;
  }

  /** The answer is held back until what it says is durable. */
  private runDurably(entry: Entry, request: Request): void {
    const waiting = request.stub();
    this.reply.hold();
    this.run(entry, request);
    const held = this.reply.takeHeld();
    if (held.length === 0) return;
    this.fs.sync(null, (error) => {
      if (error === null) this.reply.sendHeld(held);
      else this.fail(waiting, error);
    });
  }

  private run(entry: Entry, request: Request): void {
    try {
      this.fs.actAs(isWriteback(request) ? null : request.cred);
      entry.run(this, request);
    } catch (error) {
      if (this.retryWithMoreSpace(request, error)) return;
      this.fail(request, error, entry.silent);
    }
  }

  /** The request in a form that survives the reading of the next; whoever runs it again calls {@link retry}. */
  private keep(request: Request, copyBytes = COPY_BYTES): Request {
    const copied = request.pooled && request.length <= copyBytes;
    if (copied) request.fetchPayload(this.native);
    const kept = copied ? request.copy() : request;
    kept.held = true;
    return kept;
  }

  private retry(request: Request): void {
    request.held = false;
    this.handle(request);
    if (!request.held) this.done(request);
  }

  done(request: Request): void {
    request.held = false;
    if (!request.pooled) return;
    this.device.release(request);
    this.pause(false);
  }

  fail(request: Request, error: unknown, silent = false): void {
    const errno = this.errors.errno(error, request.opcode);
    if (error instanceof FsError && isWriteback(request)) this.noteLost(request.ino, error);
    if (!silent) this.reply.status(request, errno);
  }

  /** A write was answered before it failed. */
  private lost(ino: Ino, error: unknown): void {
    this.errors.errno(error, Opcode.WRITE);
    const known = error instanceof FsError ? error : new FsError('EIO', String(error));
    this.lostWrites.noteAnswered(ino, known);
    this.noteLost(ino, known);
  }

  private noteLost(ino: Ino, error: FsError): void {
    this.lostWrites.note(ino, error);
    // Perhaps only this write-back keeps the inode in memory: then the notification waits for its end.
    this.notify(invalidation(ino, -1), () => {});
  }

  retryWhenDrained(request: Request, ino: Ino): void {
    const kept = this.keep(request);
    this.data.flights.whenDrained(ino, () => this.retry(kept));
  }

  retryWithMoreSpace(request: Request, error: unknown): boolean {
    if (!(error instanceof FsError) || request.spaceRetries >= SPACE_RETRIES) return false;
    if (error.code === 'EDQUOT') return this.retryWhenEvicted(request);
    if (error.code !== 'ENOSPC') return false;
    const retries = request.spaceRetries + 1;
    let kept = request;
    const again = () => {
      if (this.closeBegun) return;
      this.retry(kept);
      this.afterRequests();
    };
    if (!this.fs.whenSpaceReturns(() => setImmediate(again))) return this.retryWhenEvicted(request);
    kept = this.keep(request);
    kept.spaceRetries = retries;
    return true;
  }

  /** A removed file takes space, its owner's, until the kernel has forgotten it, which follows soon. */
  private retryWhenEvicted(request: Request): boolean {
    if (!this.nodes.anyDoomed && !this.nodes.anyLeaving) return false;
    const retries = request.spaceRetries + 1;
    const kept = this.keep(request);
    kept.spaceRetries = retries;
    const again = () => {
      if (this.closeBegun) return;
      this.evictDoomed();
      this.retry(kept);
      this.afterRequests();
    };
    setTimeout(again, 2 ** (retries - 1));
    return true;
  }

  /** The log calls from the middle of its work: continue when that is over. */
  private askReady(): void {
    if (this.readyAsked) return;
    this.readyAsked = true;
    this.fs.onceReady(() => setImmediate(() => this.resumeThrottled()));
  }

  private resumeThrottled(): void {
    this.readyAsked = false;
    const waiting = this.throttled;
    this.throttled = [];
    for (let i = 0; i < waiting.length; i++) {
      if (this.fs.needsThrottle()) {
        this.throttled = waiting.slice(i).concat(this.throttled);
        this.askReady();
        break;
      }
      this.retry(waiting[i]);
    }
    if (!this.closeBegun) this.afterRequests();
  }

  private afterRequests(): void {
    this.evictDoomed();
    this.fs.endOfOperation();
  }

  /** Frees inodes that nobody can reach any more, as far as the log takes it. */
  private evictDoomed(): void {
    while (this.nodes.anyDoomed && this.frozen === null) {
      if (this.fs.needsThrottle()) {
        this.askReady();
        return;
      }
      this.evict(this.nodes.takeDoomed(EVICTED_TOGETHER));
    }
  }

  private evict(inos: Ino[]): void {
    this.data.settle();
    this.lostWrites.forget(inos);
    const idle = inos.filter((ino) => !this.data.inFlight(ino));
    for (const ino of inos) {
      if (this.data.inFlight(ino)) this.data.flights.whenDrained(ino, () => this.evict([ino]));
    }
    try {
      if (idle.length > 0) this.fs.evict(idle);
    } catch (error) {
      // One of them is corrupt: it stays where it is, for e2fsck to find, and the others go.
      if (idle.length > 1) for (const ino of idle) this.evict([ino]);
      else this.errors.errno(error, Opcode.FORGET);
    }
  }

  retryWrittenBack(request: Request, ino: Ino): boolean {
    if (request.writtenBack || !this.negotiated.writeback || !this.nodes.hasWriters(ino)) return false;
    const kept = this.keep(request);
    kept.writtenBack = true;
    // Offset 0, length 0: all of it. Dirty pages are written back before they go, by native code perhaps.
    this.notify(invalidation(ino, 0), () => {
      if (this.closeBegun) return;
      this.retry(kept);
      this.afterRequests();
    });
    return true;
  }

  /** From another thread: the kernel may wait for an answer of this one before it takes the notification. */
  private notify(message: Uint8Array, done: () => void): void {
    whenJobDone(this.native.notify(this.fuseFd, message, 0, message.length), () => done());
  }

  invalidateAttributes(ino: Ino): void {
    // An offset below 0 leaves the pages alone: nothing to wait for.
    const message = invalidation(ino, -1);
    this.native.fuseWrite(this.fuseFd, message, 0, message.length);
  }

  /** The process is about to close the filesystem itself: what was acknowledged is known to it. */
  stopServing(): void {
    this.thaw();
    this.data.stopFastPath();
  }

  shutDown(): void {
    this.isShutDown = true;
    this.data.stopFastPath();
    this.fs.shutDown();
  }

  /** Memory is short: caches and buffers are let go. */
  relieveMemory(): void {
    this.device.relieveMemory();
    this.ring?.relieveMemory();
    this.fs.relieveMemory();
  }

  freeze(whenDone: (error: FsError | null) => void): void {
    if (this.frozen !== null || this.closeBegun) {
      whenDone(new FsError('EBUSY', 'the filesystem is frozen already'));
      return;
    }
    this.evictDoomed();
    const held: Request[] = [];
    this.frozen = held;
    this.data.flights.whenIdle(() => {
      if (this.frozen !== held) {
        whenDone(new FsError('EIO', 'it was thawed before it was frozen'));
        return;
      }
      try {
        this.data.settle();
        this.fs.freeze();
        whenDone(null);
      } catch (error) {
        this.thaw();
        whenDone(error instanceof FsError ? error : new FsError('EIO', String(error)));
      }
    });
  }

  thaw(): boolean {
    const waiting = this.frozen;
    if (waiting === null) return false;
    this.frozen = null;
    this.fs.thaw();
    for (const request of waiting) this.retry(request);
    if (!this.closeBegun) this.afterRequests();
    return true;
  }

  openRing(offered: boolean): boolean {
    const ring = RingRequests.open(this.native, this.fuseFd, offered);
    if (ring instanceof RingRequests) this.ring = ring;
    else this.log(`requests come by /dev/fuse: ${ring.message}`);
    return this.ring !== null;
  }

  /** Requests come over io_uring. */
  get overRing(): boolean {
    return this.ring !== null;
  }

  began(): void {
    const { ring } = this;
    try {
      if (ring !== null && !ring.begin()) {
        this.log('requests come by /dev/fuse: the kernel refuses the ring');
        ring.close();
        this.ring = null;
      }
    } catch (error) {
      this.log(error instanceof Error ? error.message : String(error));
      this.connectionEnded(Errno.ENODEV);
      return;
    }
    const source = this.ring;
    if (source !== null) this.native.pollStart(source.fd, () => this.onReadable(source), this.fuseFd);
    this.options.onBegin?.();
  }

  /** fuseblk: unmount waits for the answer, which therefore comes when the image is clean. */
  destroyed(request: Request): void {
    const waiting = request.stub();
    this.close(() => this.reply.status(waiting, 0));
  }

  /** ENODEV: unmounted, or the connection was aborted. */
  private connectionEnded(errno: number): void {
    if (errno !== Errno.ENODEV) this.log(`reading requests: errno ${errno}`);
    if (this.ring !== null) this.native.pollStop(this.ring.fd);
    this.native.pollStop(this.fuseFd);
    this.connected = false;
    this.close(() => {});
    this.finish();
  }

  /** Finishes what is under way, frees what only the kernel held, closes the filesystem; once. */
  private close(answer: () => void): void {
    if (this.closeBegun) return;
    this.closeBegun = true;
    this.throttled = [];
    this.frozen = null;
    this.fs.thaw();
    this.data.stopFastPath();
    this.data.flights.whenIdle(() => {
      this.nodes.dropAll();
      while (this.nodes.anyDoomed) this.evict(this.nodes.takeDoomed(EVICTED_TOGETHER));
      this.fs.close((error) => {
        if (error !== null) this.log(`closing the filesystem: ${error.message}`);
        this.closeError = error;
        this.closed = true;
        answer();
        this.finish();
      });
    });
  }

  private finish(): void {
    if (this.connected || !this.closed || this.ended) return;
    this.ended = true;
    this.reply.close();
    this.ring?.close();
    this.native.closeFile(this.fuseFd);
    this.options.onEnd?.(this.closeError);
  }
}
