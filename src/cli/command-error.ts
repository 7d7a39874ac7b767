/** What ends a command. */
import { MountExit } from './exit-codes.js';

/** The command cannot go on; the message is complete: what is wrong, with what, and what to do next. */
export class CommandError extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode: number = MountExit.FAILURE) {
    super(message);
    this.name = 'CommandError';
    this.exitCode = exitCode;
  }
}
