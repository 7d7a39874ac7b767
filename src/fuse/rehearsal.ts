/**
 * The first thousand times a piece of this program runs it is interpreted, and takes several times as long as it will
 * later. So, while nobody asks for anything, the common operations run on a small filesystem in memory, through the same
 * dispatcher, answered to /dev/null: when the first user unpacks an archive, the code is compiled.
 */
import { closeSync, openSync, readFileSync } from 'node:fs';
import { MemoryDevice } from '../block/memory-device.js';
import { ownView, type WriteView } from '../codec/view.js';
import { realEnvironment } from '../ext4/environment.js';
import { Filesystem } from '../ext4/filesystem.js';
import {
  CREATE_IN,
  FATTR_CTIME,
  FATTR_MTIME,
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
import { Opcode } from './opcodes.js';
import { PAYLOAD } from './reply.js';
import { ARGS, Request } from './request.js';
import { Session } from './session.js';

/** Times each operation is run: by then V8 has compiled what is worth it. */
const ROUNDS = 2500;
const FILES_PER_DIRECTORY = 500;
const DATA_BYTES = 1024;

type Put = (view: WriteView) => void;

export class Rehearsal {
  readonly fs: Filesystem;
  private readonly session: Session;
  private readonly request = new Request(new Uint8Array(ARGS + WRITE_IN.SIZE + 2 * DATA_BYTES));
  private readonly view: WriteView;
  private readonly nothing: number;
  private round = 0;
  private directory = FUSE_ROOT_ID;

  /** `imagePath` is a small ext4 image, which is only read. */
  constructor(imagePath: string) {
    // Nothing is committed unless it must be, and no timer is left behind.
    const env = { ...realEnvironment, schedule: () => () => {} };
    this.fs = Filesystem.open(new MemoryDevice(readFileSync(imagePath)), { env });
    this.nothing = openSync('/dev/null', 'w');
    const { device, geometry } = this.fs.volume;
    this.session = new Session({ fs: this.fs, fuseFd: this.nothing, device, blockSize: geometry.blockSize, acl: true });
    this.session.negotiated = { minor: 31, writeback: true, acl: true, setxattrExt: true, noOpendir: true };
    this.view = ownView(this.request.bytes);
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
    if (round % FILES_PER_DIRECTORY === 0) {
      this.send(Opcode.MKDIR, FUSE_ROOT_ID, MKDIR_IN.SIZE, (view) => MKDIR_IN.mode.set(view, ARGS, 0o755), `d${round}`);
      this.directory = this.repliedNode;
    }
    this.round++;
    const { directory } = this;
    const name = `file-${round}`;
    this.send(Opcode.GETATTR, directory, GETATTR_IN.SIZE);
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

  /** The node in the reply that was just built. */
  private get repliedNode(): number {
    return this.session.reply.view.getUint32(PAYLOAD, true);
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
    if (request.decode(length)) this.session.serve(request);
  }
}
