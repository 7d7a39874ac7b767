import { CorruptionError } from '../../errors.js';

/** What a check has found wrong so far. */
export class Findings {
  readonly list: CorruptionError[] = [];

  add(structure: string, place: string, finding: string): void {
    this.list.push(new CorruptionError(structure, place, finding));
  }

  /** Runs a part of the check; what it throws as corruption is noted. Undefined then. */
  collect<T>(part: () => T): T | undefined {
    try {
      return part();
    } catch (error) {
      if (!(error instanceof CorruptionError)) throw error;
      this.list.push(error);
      return undefined;
    }
  }
}
