/**
 * The first thousand times a piece of this program runs it is interpreted, and takes several times as long as it will
 * later. So, while nobody asks for anything, the common operations run on a filesystem in memory, through the same
 * dispatcher, answered to /dev/null: when the first user unpacks an archive, the code is compiled.
 */
import { closeSync, openSync } from 'node:fs';
import { ownView, type WriteView } from '../codec/view.js';
import { environmentWith } from '../ext4/environment.js';
import { Filesystem } from '../ext4/filesystem.js';
import {
  CREATE_IN,
  FATTR_CTIME,
  FATTR_GID,
  FATTR_KILL_SUIDGID,
  FATTR_MODE,
  FATTR_MTIME,
  FATTR_UID,
  FORGET_IN,
  FUSE_ROOT_ID,
  GETATTR_IN,
  GETXATTR_IN,
  IN_HEADER,
  MKDIR_IN,
  O_WRONLY,
  READ_IN,
  RELEASE_IN,
  RENAME2_IN,
  SETATTR_IN,
  WRITE_IN,
} from './abi.js';
import type { Engine } from './engine.js';
import { Opcode } from './opcodes.js';
import { openStage } from './rehearsal-stage.js';
import { PAYLOAD } from './reply.js';
import { ARGS, Request } from './request.js';
import { Session } from './session.js';

/** Times each operation is run: by then V8 has compiled what is worth it. */
const ROUNDS = 2500;
/**
 * Each act has a filesystem of its own: what V8 has compiled for the objects of one only, it compiles again when it meets the first
 * user's.
 */
const ROUNDS_PER_ACT = 500;
const FILES_PER_DIRECTORY = 500;
const DATA_BYTES = 1024;

type Put = (view: WriteView) => void;

interface Act {
  readonly fs: Filesystem;
  readonly session: Session;
}

export class Rehearsal {
  private readonly request = new Request(new Uint8Array(ARGS + WRITE_IN.SIZE + 2 * DATA_BYTES));
  private readonly view: WriteView;
  private readonly nothing: number;
  private readonly records: Buffer;
  private readonly premiere: Engine;
  /** Null between two acts. */
  private act: Act | null = null;
  private round = 0;
  private directory = FUSE_ROOT_ID;

  /** `records` is what {@link openStage} takes; `premiere` the filesystem that users are going to see. */
  constructor(records: Buffer, premiere: Engine) {
    this.records = records;
    this.premiere = premiere;
    this.nothing = openSync('/dev/null', 'w');
    this.view = ownView(this.request.bytes);
  }

  /** What is played on now. */
  get fs(): Filesystem | null {
    return this.act?.fs ?? null;
  }

  /**
   * Rehearses for about so long, less while its log is busy, or sets the scene for the next act. True: there is more to
   * do. Throws whatever is wrong with the stage.
   */
  step(milliseconds: number): boolean {
    if (this.act === null) {
      this.act = this.nextAct();
      return true;
    }
    const { fs, session } = this.act;
    const until = performance.now() + milliseconds;
    while (this.round < ROUNDS && performance.now() < until && !fs.needsThrottle()) {
      this.playRound(session);
      if (this.round % ROUNDS_PER_ACT !== 0) continue;
      this.act = null;
      break;
    }
    return this.round < ROUNDS;
  }

  private nextAct(): Act {
    // Nothing is committed unless it must be, and no timer is left behind.
    const env = environmentWith(() => () => {});
    const device = openStage(this.records);
    const fs = Filesystem.open(device, { env });
    const { blockSize } = fs.volume.geometry;
    const session = new Session({ fs, fuseFd: this.nothing, device, blockSize, acl: true });
    session.negotiated = { minor: 31, writeback: true, acl: true, setxattrExt: true, noOpendir: true };
    // Two functions take turns, or V8 would put the one into the code of what calls it.
    if (this.round % (2 * ROUNDS_PER_ACT) === 0) fs.beforeDataMoves(() => {});
    try {
      // Its older objects take the form that newer ones have got.
      this.premiere.statfs();
    } catch {
      // Shut down, perhaps: whoever asks will be told.
    }
    return { fs, session };
  }

  end(): void {
    this.round = ROUNDS;
    closeSync(this.nothing);
  }

  /** The life of one small file, in the order in which the kernel would ask. */
  private playRound(session: Session): void {
    const { round } = this;
    const repliedNode = () => session.reply.view.getUint32(PAYLOAD, true);
    if (round % FILES_PER_DIRECTORY === 0) {
      this.send(
        session,
        Opcode.MKDIR,
        FUSE_ROOT_ID,
        MKDIR_IN.SIZE,
        (view) => MKDIR_IN.mode.set(view, ARGS, 0o755),
        `d${round}`,
      );
      this.directory = repliedNode();
    }
    this.round++;
    const { directory } = this;
    const name = `file-${round}`;
    this.send(session, Opcode.GETATTR, directory, GETATTR_IN.SIZE);
    this.send(session, Opcode.LOOKUP, FUSE_ROOT_ID, 0, undefined, 'n');
    this.send(session, Opcode.LOOKUP, directory, 0, undefined, name);
    this.send(
      session,
      Opcode.CREATE,
      directory,
      CREATE_IN.SIZE,
      (view) => {
        CREATE_IN.flags.set(view, ARGS, O_WRONLY);
        CREATE_IN.mode.set(view, ARGS, 0o100644);
      },
      name,
    );
    const node = repliedNode();
    this.send(session, Opcode.GETXATTR, node, GETXATTR_IN.SIZE, undefined, 'security.capability');
    this.send(
      session,
      Opcode.WRITE,
      node,
      WRITE_IN.SIZE,
      (view) => WRITE_IN.size.set(view, ARGS, DATA_BYTES),
      '',
      DATA_BYTES,
    );
    this.send(session, Opcode.SETATTR, node, SETATTR_IN.SIZE, (view) =>
      SETATTR_IN.valid.set(view, ARGS, FATTR_MTIME | FATTR_CTIME),
    );
    this.send(session, Opcode.RELEASE, node, RELEASE_IN.SIZE, (view) => RELEASE_IN.flags.set(view, ARGS, O_WRONLY));
    this.playUnpacking(session, node);
    this.send(session, Opcode.LOOKUP, directory, 0, undefined, name);
    this.send(session, Opcode.READ, node, READ_IN.SIZE, (view) => READ_IN.size.set(view, ARGS, DATA_BYTES));
    this.send(
      session,
      Opcode.RENAME2,
      directory,
      RENAME2_IN.SIZE,
      (view) => RENAME2_IN.newdir.set(view, ARGS, directory),
      `${name}\0${name}.new`,
    );
    // Every other one stays, so that the directory grows an index.
    if (round % 2 !== 0) return;
    this.send(session, Opcode.UNLINK, directory, 0, undefined, `${name}.new`);
    this.send(session, Opcode.SETATTR, node, SETATTR_IN.SIZE, (view) =>
      SETATTR_IN.valid.set(view, ARGS, FATTR_MTIME | FATTR_CTIME),
    );
    this.send(session, Opcode.FORGET, node, FORGET_IN.SIZE, (view) => FORGET_IN.nlookup.set(view, ARGS, 2));
  }

  /** What a program that unpacks an archive says of each file that it has written. */
  private playUnpacking(session: Session, node: number): void {
    const nowMs = Date.now();
    this.send(session, Opcode.SETATTR, node, SETATTR_IN.SIZE, (view) => {
      SETATTR_IN.valid.set(view, ARGS, FATTR_MTIME | FATTR_CTIME);
      SETATTR_IN.mtime.set(view, ARGS, Math.floor(nowMs / 1000));
      SETATTR_IN.mtimensec.set(view, ARGS, (nowMs % 1000) * 1_000_000);
      SETATTR_IN.ctime.set(view, ARGS, Math.floor(nowMs / 1000));
      SETATTR_IN.ctimensec.set(view, ARGS, 999_999_999 - this.round);
    });
    this.send(session, Opcode.GETXATTR, node, GETXATTR_IN.SIZE, undefined, 'security.capability');
    this.send(session, Opcode.SETATTR, node, SETATTR_IN.SIZE, (view) =>
      SETATTR_IN.valid.set(view, ARGS, FATTR_UID | FATTR_GID | FATTR_CTIME | FATTR_KILL_SUIDGID),
    );
    this.send(session, Opcode.SETATTR, node, SETATTR_IN.SIZE, (view) => {
      SETATTR_IN.valid.set(view, ARGS, FATTR_MODE | FATTR_CTIME);
      SETATTR_IN.mode.set(view, ARGS, 0o100640);
    });
  }

  private send(
    session: Session,
    opcode: number,
    node: number,
    argsBytes: number,
    put?: Put,
    name = '',
    dataBytes = 0,
  ): void {
    const { view, request } = this;
    request.bytes.fill(0, 0, ARGS + argsBytes);
    let length = ARGS + argsBytes;
    if (name !== '') {
      for (let i = 0; i < name.length; i++) request.bytes[length++] = name.charCodeAt(i);
      request.bytes[length++] = 0;
    }
    length += dataBytes;
    IN_HEADER.len.set(view, 0, length);
    IN_HEADER.opcode.set(view, 0, opcode);
    IN_HEADER.nodeid.set(view, 0, node);
    put?.(view);
    if (request.decode(length)) session.serve(request);
  }
}
