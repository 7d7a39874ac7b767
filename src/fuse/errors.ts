/** The one place where an error of the program becomes an errno of the protocol. */
import { CorruptionError, Errno, FsError, UnsupportedError } from '../errors.js';
import type { Engine } from './engine.js';
import { opcodeName } from './opcodes.js';

export class ErrorTranslator {
  private readonly fs: Engine;
  private readonly log: (line: string) => void;
  private readonly namedUnsupported = new Set<string>();
  private bugSeen = false;

  constructor(fs: Engine, log: (line: string) => void) {
    this.fs = fs;
    this.log = log;
  }

  /** The errno to reply with; `opcode` is what was being done, for the log. */
  errno(error: unknown, opcode: number): number {
    if (error instanceof FsError) return error.errno;
    if (error instanceof CorruptionError) {
      this.fs.reportCorruption(error);
      return error.errno;
    }
    if (error instanceof UnsupportedError) {
      if (!this.namedUnsupported.has(error.message)) {
        this.namedUnsupported.add(error.message);
        this.log(`${opcodeName(opcode)}: not supported: ${error.message}`);
      }
      return Errno.EOPNOTSUPP;
    }
    // A bug: what is in memory can no longer be trusted, so nothing of it reaches the image any more.
    if (!this.bugSeen) {
      this.bugSeen = true;
      const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.log(`internal error in ${opcodeName(opcode)}: ${stack}`);
      this.fs.abort(new FsError('EIO', error instanceof Error ? error.message : String(error)));
    }
    return Errno.EIO;
  }
}
