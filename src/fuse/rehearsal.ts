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

export class Rehearsal {
  private readonly request = new Request(new Uint8Array(ARGS + WRITE_IN.SIZE + 2 * DATA_BYTES));
  private readonly view: WriteView;
  private readonly nothing: number;
  private readonly stagePath: string;
  private readonly premiere: Engine;
  private act: { readonly fs: Filesystem; readonly session: Session };
  private round = 0;
  private directory = FUSE_ROOT_ID;

  /** `stagePath` is what {@link openStage} takes; `premiere` the filesystem that users are going to see. */
  constructor(stagePath: string, premiere: Engine) {
    this.stagePath = stagePath;
    this.premiere = premiere;
    this.nothing = openSync('/dev/null', 'w');
    this.view = ownView(this.request.bytes);
    this.act = this.nextAct();
  }

  /** What is played on now. */
  get fs(): Filesystem {
    return this.act.fs;
  }

  private nextAct(): Rehearsal['act'] {
    // Nothing is committed unless it must be, and no timer is left behind.
    const env = environmentWith(() => () => {});
    const device = openStage(this.stagePath);
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

  /** Rehearses for about so long, less while its log is busy. True: there is more to do. */
  step(milliseconds: number): boolean {
    const until = performance.now() + milliseconds;
    while (this.round < ROUNDS && performance.now() < until && !this.fs.needsThrottle()) this.playRound();
    return this.round < ROUNDS;
  }

  end(): void {
    this.round = ROUNDS;
    closeSync(this.nothing);
  }

  /** The life of one small file, in the order in which the kernel would ask. */
  private playRound(): void {
    const { round } = this;
    if (round > 0 && round % ROUNDS_PER_ACT === 0) this.act = this.nextAct();
    if (round % FILES_PER_DIRECTORY === 0) {
      this.send(Opcode.MKDIR, FUSE_ROOT_ID, MKDIR_IN.SIZE, (view) => MKDIR_IN.mode.set(view, ARGS, 0o755), `d${round}`);
      this.directory = this.repliedNode;
    }
    this.round++;
    const { directory } = this;
    const name = `file-${round}`;
    this.send(Opcode.GETATTR, directory, GETATTR_IN.SIZE);
    this.send(Opcode.LOOKUP, FUSE_ROOT_ID, 0, undefined, 'n');
    this.send(Opcode.LOOKUP, directory, 0, undefined, name);
    this.send(
      Opcode.CREATE,
      directory,
      CREATE_IN.SIZE,
      (view) => {
        CREATE_IN.flags.set(view, ARGS, O_WRONLY);
        CREATE_IN.mode.set(view, ARGS, 0o100644);
      },
      name,
    );
    const node = this.repliedNode;
    this.send(Opcode.GETXATTR, node, GETXATTR_IN.SIZE, undefined, 'security.capability');
    this.send(Opcode.WRITE, node, WRITE_IN.SIZE, (view) => WRITE_IN.size.set(view, ARGS, DATA_BYTES), '', DATA_BYTES);
    this.send(Opcode.SETATTR, node, SETATTR_IN.SIZE, (view) =>
      SETATTR_IN.valid.set(view, ARGS, FATTR_MTIME | FATTR_CTIME),
    );
    this.send(Opcode.RELEASE, node, RELEASE_IN.SIZE, (view) => RELEASE_IN.flags.set(view, ARGS, O_WRONLY));
    this.playUnpacking(node);
    this.send(Opcode.LOOKUP, directory, 0, undefined, name);
    this.send(Opcode.READ, node, READ_IN.SIZE, (view) => READ_IN.size.set(view, ARGS, DATA_BYTES));
    this.send(
      Opcode.RENAME2,
      directory,
      RENAME2_IN.SIZE,
      (view) => RENAME2_IN.newdir.set(view, ARGS, directory),
      `${name}\0${name}.new`,
    );
    // Every other one stays, so that the directory grows an index.
    if (round % 2 !== 0) return;
    this.send(Opcode.UNLINK, directory, 0, undefined, `${name}.new`);
    this.send(Opcode.SETATTR, node, SETATTR_IN.SIZE, (view) =>
      SETATTR_IN.valid.set(view, ARGS, FATTR_MTIME | FATTR_CTIME),
    );
    this.send(Opcode.FORGET, node, FORGET_IN.SIZE, (view) => FORGET_IN.nlookup.set(view, ARGS, 2));
  }

  /** What a program that unpacks an archive says of each file that it has written. */
  private playUnpacking(node: number): void {
    const nowMs = Date.now();
    this.send(Opcode.SETATTR, node, SETATTR_IN.SIZE, (view) => {
      SETATTR_IN.valid.set(view, ARGS, FATTR_MTIME | FATTR_CTIME);
      SETATTR_IN.mtime.set(view, ARGS, Math.floor(nowMs / 1000));
      SETATTR_IN.mtimensec.set(view, ARGS, (nowMs % 1000) * 1_000_000);
      SETATTR_IN.ctime.set(view, ARGS, Math.floor(nowMs / 1000));
      SETATTR_IN.ctimensec.set(view, ARGS, 999_999_999 - this.round);
    });
    this.send(Opcode.GETXATTR, node, GETXATTR_IN.SIZE, undefined, 'security.capability');
    this.send(Opcode.SETATTR, node, SETATTR_IN.SIZE, (view) =>
      SETATTR_IN.valid.set(view, ARGS, FATTR_UID | FATTR_GID | FATTR_CTIME | FATTR_KILL_SUIDGID),
    );
    this.send(Opcode.SETATTR, node, SETATTR_IN.SIZE, (view) => {
      SETATTR_IN.valid.set(view, ARGS, FATTR_MODE | FATTR_CTIME);
      SETATTR_IN.mode.set(view, ARGS, 0o100640);
    });
  }

  /** The node in the reply that was just built. */
  private get repliedNode(): number {
    return this.act.session.reply.view.getUint32(PAYLOAD, true);
  }

  private send(opcode: number, node: number, argsBytes: number, put?: Put, name = '', dataBytes = 0): void {
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
    if (request.decode(length)) this.act.session.serve(request);
  }
}
