/** Which blocks must not be replayed from which transactions: for each, the latest that revoked it (fs/jbd2/revoke.c). */
import { type Tid, tidGeq, tidGt } from './tid.js';

export class RevokeTable {
  private readonly latest = new Map<number, Tid>();

  /** jbd2_journal_set_revoke */
  set(block: number, tid: Tid): void {
    const known = this.latest.get(block);
    if (known === undefined || tidGt(tid, known)) this.latest.set(block, tid);
  }

  /** True if the copy of `block` that transaction `tid` logged is void (jbd2_journal_test_revoke). */
  revokes(block: number, tid: Tid): boolean {
    const known = this.latest.get(block);
    return known !== undefined && tidGeq(known, tid);
  }

  get size(): number {
    return this.latest.size;
  }
}
