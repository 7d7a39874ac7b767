/**
 * READ and WRITE. The engine says which device bytes a range of a file is; the bytes go between the device and
 * /dev/fuse in native code: small ones at once, large ones on a data thread while the next requests are served.
 *
 * A write is three steps: `iomapBegin` allocates unwritten blocks, the bytes reach the device, `iomapIoend` marks them
 * written and raises i_size. No crash between them shows old content of a block.
 */
import type { BlockDevice } from '../block/device.js';
import { FileDevice } from '../block/file-device.js';
import { FsError } from '../errors.js';
import { EXT4_EXTENTS_FL, EXT4_IMMUTABLE_FL } from '../ext4/format/inode.js';
import type { Ino } from '../ext4/inode.js';
import {
  IOEND_UPDATE_TIMES,
  type IomapMapping,
  OP_WRITE,
  OP_WRITEBACK,
  TYPE_MAPPED,
  TYPE_UNWRITTEN,
} from '../ext4/iomap.js';
import { errorOf, type Native, whenJobDone } from '../native.js';
import { FUSE_WRITE_CACHE, FUSE_WRITE_KILL_SUIDGID, O_DIRECT, O_DSYNC, READ_IN, WRITE_IN } from './abi.js';
import type { Context } from './context.js';
import type { Engine } from './engine.js';
import { FastPath } from './fast-path.js';
import { InFlight } from './in-flight.js';
import { MAX_WRITE } from './init.js';
import { Opcode } from './opcodes.js';
import { killSuidgid } from './privileges.js';
import { ARGS, type Request } from './request.js';

/** Up to here handing the transfer to another thread costs more than doing it. */
const SYNC_READ_BYTES = 32 << 10;
const SYNC_WRITE_BYTES = 64 << 10;

/** Mappings that one request can need: every block its own, and an edge. */
const MAX_SEGMENTS = MAX_WRITE / 1024 + 2;

/** One contiguous piece of a write. */
interface Piece {
  readonly pos: number;
  readonly length: number;
  readonly addr: number;
  readonly mapping: IomapMapping;
}

interface WritePlan {
  readonly ino: Ino;
  readonly pieces: Piece[];
  /** What the pieces cover: less than was asked when `failure` is set. */
  readonly bytes: number;
  readonly failure: FsError | null;
  /** Nothing of the file changes but its data, and that blocks become written. */
  within: boolean;
}

export class DataPath {
  private readonly native: Native;
  private readonly fuseFd: number;
  private readonly device: BlockDevice;
  /** The device's descriptor, or -1: then the bytes go through this thread. */
  private readonly deviceFd: number;
  private readonly base: number;
  private readonly blockSize: number;
  private readonly segments = new Float64Array(2 * MAX_SEGMENTS);
  private readonly zeroes: Uint8Array;
  readonly flights = new InFlight();
  private readonly fast: FastPath | null;

  /** `lost` hears of data that was acknowledged and could not become part of its file. */
  constructor(
    native: Native,
    fuseFd: number,
    device: BlockDevice,
    blockSize: number,
    fs: Engine,
    lost: (ino: Ino, error: unknown) => void,
  ) {
    this.native = native;
    this.fuseFd = fuseFd;
    this.device = device;
    this.deviceFd = device instanceof FileDevice ? device.fd : -1;
    this.base = device instanceof FileDevice ? device.baseOffset : 0;
    this.blockSize = blockSize;
    this.zeroes = new Uint8Array(blockSize);
    const { deviceFd, base } = this;
    this.fast = deviceFd < 0 ? null : new FastPath({ native, fuseFd, deviceFd, base, blockSize, fs, lost });
  }

  /** The engine knows of every byte that was acknowledged. Call before anything else is done. */
  settle(): void {
    this.fast?.settle();
  }

  /** Native code has answered some requests. */
  servedBeside(): void {
    this.fast?.served();
  }

  /** From now on every request comes this way. */
  stopFastPath(): void {
    this.fast?.stop();
  }

  /** Data of the inode is being written: its blocks must stay what they are. */
  inFlight(ino: Ino): boolean {
    return this.flights.has(ino);
  }

  /** The byte of the disk, or of the whole image, that is this byte of the filesystem; 0 stays 0. */
  deviceOffset(addrBytes: number): number {
    return addrBytes === 0 ? 0 : this.base + addrBytes;
  }

  // Reading

  read(context: Context, request: Request): void {
    const { fs, reply } = context;
    const { view, ino } = request;
    request.require(READ_IN.SIZE);
    const offset = READ_IN.offset.get(view, ARGS);
    const asked = Math.min(READ_IN.size.get(view, ARGS), MAX_WRITE);
    // With a write-back cache the kernel may know a larger size, and fills the rest with zeroes itself.
    const end = Math.min(offset + asked, fs.stat(ino).size);
    if (!fs.needsThrottle()) fs.touchAtime(ino);
    if (end <= offset) {
      reply.payload(request, 0);
      return;
    }
    if (fs.readsThroughEngine(ino)) {
      const into = this.takeReadBuffer().subarray(0, end - offset);
      fs.readData(ino, offset, into);
      reply.data(request, into);
      return;
    }
    const learns = end - offset <= SYNC_READ_BYTES && this.fast?.again(ino);
    const count = this.mapForReading(context, ino, offset, end, learns ? fs.atimeSettledUntil(ino) : 0);
    if (this.deviceFd < 0) {
      this.readThroughThisThread(count);
      reply.data(request, this.readBuffer.subarray(0, end - offset));
    } else if (end - offset <= SYNC_READ_BYTES) {
      const result = this.native.readReplySync(this.fuseFd, request.unique, this.deviceFd, this.segments, count);
      if (result < 0) context.log(`read of inode ${ino} at ${offset}: ${errorOf(result, 'I/O error').message}`);
    } else {
      const token = fs.dataStarted();
      this.flights.readStarted();
      const id = this.native.readReply(this.fuseFd, request.unique, this.deviceFd, this.segments, count);
      whenJobDone(id, (result) => {
        fs.dataFinished(token);
        this.flights.readEnded();
        if (result < 0) context.log(`read of inode ${ino} at ${offset}: ${errorOf(result, 'I/O error').message}`);
      });
    }
  }

  /** Fills `segments` for [offset, end); how many there are. Native code learns them to read them until `learnUntil`. */
  private mapForReading(context: Context, ino: Ino, offset: number, end: number, learnUntil: number): number {
    const { segments } = this;
    let count = 0;
    for (let pos = offset; pos < end; ) {
      const mapping = context.fs.iomapBegin(ino, pos, end - pos, 0);
      const length = Math.min(end, mapping.offsetBytes + mapping.lengthBytes) - pos;
      if (!(length > 0) || count >= MAX_SEGMENTS)
        throw new Error('a mapping does not cover the range it was asked for');
      if (learnUntil > 0) this.fast?.learnToRead(ino, context.fs.stat(ino).size, learnUntil, mapping);
      const inMapping = pos - mapping.offsetBytes;
      segments[2 * count] = mapping.type === TYPE_MAPPED ? this.base + mapping.addrBytes + inMapping : -1;
      segments[2 * count + 1] = length;
      count++;
      pos += length;
    }
    return count;
  }

  private readBuffer = new Uint8Array(0);

  private takeReadBuffer(): Uint8Array {
    if (this.readBuffer.length === 0) this.readBuffer = new Uint8Array(MAX_WRITE);
    return this.readBuffer;
  }

  private readThroughThisThread(count: number): void {
    this.takeReadBuffer();
    for (let i = 0, done = 0; i < count; i++) {
      const addr = this.segments[2 * i];
      const length = this.segments[2 * i + 1];
      const into = this.readBuffer.subarray(done, done + length);
      if (addr < 0) into.fill(0);
      else this.device.read(addr, into);
      done += length;
    }
  }

  // Writing

  write(context: Context, request: Request): void {
    const { fs } = context;
    const { view, ino } = request;
    request.require(WRITE_IN.SIZE);
    const offset = WRITE_IN.offset.get(view, ARGS);
    const asked = WRITE_IN.size.get(view, ARGS);
    request.require(WRITE_IN.SIZE + asked);
    if (asked > MAX_WRITE) throw new FsError('EINVAL', 'a write larger than was agreed');
    if (asked === 0) {
      context.reply.written(request, 0);
      return;
    }
    if (fs.writesThroughEngine(ino, offset, asked)) {
      request.fetchPayload(this.native);
      const from = ARGS + WRITE_IN.SIZE;
      fs.writeJournaled(
        ino,
        offset,
        request.bytes.subarray(from, from + asked),
        opFlags(request),
        this.ioendFlags(context),
      );
      this.answer(context, request, ino, asked);
      return;
    }
    const end = offset + asked;
    const { size } = fs.stat(ino);
    // Growing over a partial last block zeroes the rest of that block, which nobody else may then be writing.
    const alone = end > size && size % this.blockSize !== 0;
    const edges = offset % this.blockSize !== 0 || end % this.blockSize !== 0;
    if ((alone || edges || this.flights.hasWaiters(ino)) && this.flights.has(ino)) {
      context.retryWhenDrained(request, ino);
      return;
    }
    const plan = this.mapForWriting(context, ino, offset, end, opFlags(request));
    plan.within = end <= size && this.ioendFlags(context) === 0;
    if (plan.failure !== null && context.retryWithMoreSpace(request, plan.failure)) return;
    if (edges) this.zeroEdges(plan, offset);
    const large = this.deviceFd >= 0 && plan.bytes > SYNC_WRITE_BYTES && !alone;
    if (!large) {
      this.finish(context, request, plan, this.writeNow(request, plan));
      if (plan.within && this.fast?.again(ino)) this.learnToWrite(fs, plan, size);
      return;
    }
    request.held = true;
    const token = fs.dataStarted();
    this.flights.started(ino);
    const count = this.segmentsOf(plan);
    const dataAt = ARGS + WRITE_IN.SIZE;
    const { bytes, payloadAside } = request;
    const id = this.native.writeData(this.deviceFd, bytes, dataAt, plan.bytes, this.segments, count, payloadAside);
    whenJobDone(id, (result) => {
      const error = result < 0 ? errorOf(result, `write to inode ${ino}`) : null;
      try {
        // What native code has written meanwhile beside it must not look unwritten to what follows.
        this.settle();
        this.finish(context, request, plan, error);
      } catch (failure) {
        context.fail(request, failure);
      }
      fs.dataFinished(token);
      context.done(request);
      this.flights.ended(ino);
    });
  }

  private learnToWrite(fs: Engine, { ino, pieces }: WritePlan, size: number): void {
    if (fs.readOnly) return;
    const { flags } = fs.stat(ino);
    const byCallers = (flags & EXT4_IMMUTABLE_FL) === 0;
    for (const { pos, length, addr, mapping } of pieces) {
      // What is promised to a block-mapped file is not its own before it is written.
      if (mapping.type === TYPE_UNWRITTEN && (flags & EXT4_EXTENTS_FL) === 0) continue;
      this.fast?.learnToWrite(ino, size, byCallers, mapping);
      if (mapping.type !== TYPE_UNWRITTEN) continue;
      const written: IomapMapping = {
        ...mapping,
        offsetBytes: pos,
        lengthBytes: length,
        addrBytes: addr,
        type: TYPE_MAPPED,
      };
      this.fast?.learnToWrite(ino, size, byCallers, written);
    }
  }

  /** Where the bytes go. Space that runs out in the middle leaves a shorter plan with the reason. */
  private mapForWriting(context: Context, ino: Ino, offset: number, end: number, opflags: number): WritePlan {
    const pieces: Piece[] = [];
    let failure: FsError | null = null;
    let pos = offset;
    while (pos < end) {
      let mapping: IomapMapping;
      try {
        mapping = context.fs.iomapBegin(ino, pos, end - pos, opflags);
      } catch (error) {
        if (pieces.length === 0 || !(error instanceof FsError)) throw error;
        failure = error;
        break;
      }
      const length = Math.min(end, mapping.offsetBytes + mapping.lengthBytes) - pos;
      if (!(length > 0) || mapping.addrBytes < 0 || pieces.length >= MAX_SEGMENTS)
        throw new Error('a mapping does not cover the range it was asked for');
      pieces.push({ pos, length, addr: mapping.addrBytes + (pos - mapping.offsetBytes), mapping });
      pos += length;
    }
    return { ino, pieces, bytes: pos - offset, failure, within: false };
  }

  /** Conversion exposes whole blocks: what the write leaves of its first and last must be zeroes on the device. */
  private zeroEdges(plan: WritePlan, offset: number): void {
    const { blockSize } = this;
    const first = plan.pieces[0];
    const head = offset % blockSize;
    if (head !== 0 && first.mapping.type === TYPE_UNWRITTEN) this.writeZeroes(first.addr - head, head);
    const last = plan.pieces[plan.pieces.length - 1];
    const tail = (last.pos + last.length) % blockSize;
    if (tail !== 0 && last.mapping.type === TYPE_UNWRITTEN) this.writeZeroes(last.addr + last.length, blockSize - tail);
  }

  private writeZeroes(addr: number, length: number): void {
    this.device.write(addr, this.zeroes.subarray(0, length));
  }

  private segmentsOf(plan: WritePlan): number {
    const { pieces } = plan;
    for (let i = 0; i < pieces.length; i++) {
      this.segments[2 * i] = this.base + pieces[i].addr;
      this.segments[2 * i + 1] = pieces[i].length;
    }
    return pieces.length;
  }

  private writeNow(request: Request, plan: WritePlan): FsError | null {
    request.fetchPayload(this.native);
    let from = ARGS + WRITE_IN.SIZE;
    for (const { addr, length } of plan.pieces) {
      if (this.deviceFd >= 0) {
        const result = this.native.pwrite(this.deviceFd, request.bytes, from, length, this.base + addr);
        if (result < 0) return errorOf(result, `write to inode ${plan.ino}`);
      } else {
        this.device.write(addr, request.bytes.subarray(from, from + length));
      }
      from += length;
    }
    return null;
  }

  /** The bytes are on the device, or `error` says why not: tell the engine, then the caller. */
  private finish(context: Context, request: Request, plan: WritePlan, error: FsError | null): void {
    const { fs } = context;
    const { ino, pieces } = plan;
    if (error !== null) {
      for (const { pos, length, mapping } of pieces) fs.iomapEnd(ino, pos, length, 0, OP_WRITE, mapping);
      if (context.settings.dataErrorAborts) fs.abort(error);
      throw error;
    }
    const tell = () => {
      for (const { pos, length, addr } of pieces) fs.iomapIoend(ino, pos, length, addr, this.ioendFlags(context), 0);
    };
    if (plan.within && this.fast !== null) this.fast.keeping(ino, tell);
    else tell();
    // Write-back looks only at the error: a short count would lose the rest in silence. Direct I/O makes EIO of one.
    const direct = (WRITE_IN.flags.get(request.view, ARGS) & O_DIRECT) !== 0;
    if (plan.failure !== null && (direct || isWriteback(request))) throw plan.failure;
    this.answer(context, request, ino, plan.bytes);
  }

  /** With a write-back cache the kernel keeps mtime and ctime and sends them with SETATTR. */
  private ioendFlags(context: Context): number {
    return context.negotiated.writeback ? 0 : IOEND_UPDATE_TIMES;
  }

  /** So many bytes of the file are written, though not durable. */
  private answer(context: Context, request: Request, ino: Ino, bytes: number): void {
    const { fs } = context;
    const { view } = request;
    if ((WRITE_IN.write_flags.get(view, ARGS) & FUSE_WRITE_KILL_SUIDGID) !== 0) killSuidgid(context, ino);
    if ((WRITE_IN.flags.get(view, ARGS) & O_DSYNC) === 0) {
      context.reply.written(request, bytes);
      return;
    }
    const lost = context.lostWrites.takeUnsynced(ino);
    if (lost !== undefined) throw lost;
    const waiting = request.stub();
    fs.sync(ino, (failure) => {
      if (failure === null) context.reply.written(waiting, bytes);
      else context.fail(waiting, failure);
    });
  }
}

/** The kernel's page cache writes back what programs were allowed to write earlier. */
export function isWriteback({ opcode, length, view }: Request): boolean {
  return (
    opcode === Opcode.WRITE &&
    length >= ARGS + WRITE_IN.SIZE &&
    (WRITE_IN.write_flags.get(view, ARGS) & FUSE_WRITE_CACHE) !== 0
  );
}

function opFlags(request: Request): number {
  return isWriteback(request) ? OP_WRITEBACK : OP_WRITE;
}

export function read(context: Context, request: Request): void {
  context.data.read(context, request);
}

export function write(context: Context, request: Request): void {
  context.data.write(context, request);
}
