/** One id's usage and limits, in place (struct mem_dqblk), and the rules for them (fs/quota/dquot.c). */
import type { WriteView } from '../../codec/view.js';
import { QUOTA_ENTRY, QUOTA_LIMIT_UNIT_BYTES } from '../format/quota.js';
import type { QuotaBlock, WritableQuotaBlock } from './quota-file.js';
import { isUnused } from './quota-tree.js';

/** What is counted: bytes of space, and inodes. */
export type Resource = 'space' | 'inodes';

/** Seconds of grace behind a soft limit; 0 where no limits are enforced. */
export interface Grace {
  readonly nowSeconds: number;
  readonly graceSeconds: number;
}

/** In bytes, or inodes; 0: none. */
export interface Limits {
  readonly soft: number;
  readonly hard: number;
}

const FIELDS = {
  space: {
    used: QUOTA_ENTRY.dqb_curspace,
    hard: QUOTA_ENTRY.dqb_bhardlimit,
    soft: QUOTA_ENTRY.dqb_bsoftlimit,
    until: QUOTA_ENTRY.dqb_btime,
    unit: QUOTA_LIMIT_UNIT_BYTES,
  },
  inodes: {
    used: QUOTA_ENTRY.dqb_curinodes,
    hard: QUOTA_ENTRY.dqb_ihardlimit,
    soft: QUOTA_ENTRY.dqb_isoftlimit,
    until: QUOTA_ENTRY.dqb_itime,
    unit: 1,
  },
} as const;

export class QuotaEntry {
  protected readonly place: QuotaBlock;

  constructor(place: QuotaBlock) {
    this.place = place;
  }

  get id(): number {
    return QUOTA_ENTRY.dqb_id.get(this.place.block.view, this.place.base);
  }
  used(what: Resource): number {
    return FIELDS[what].used.get(this.place.block.view, this.place.base);
  }
  /** In bytes, or inodes; 0: none. */
  hardLimit(what: Resource): number {
    return FIELDS[what].hard.get(this.place.block.view, this.place.base) * FIELDS[what].unit;
  }
  softLimit(what: Resource): number {
    return FIELDS[what].soft.get(this.place.block.view, this.place.base) * FIELDS[what].unit;
  }
  /** When the grace for being above the soft limit ends; 0: it has not begun. */
  graceEnd(what: Resource): number {
    const { block, base } = this.place;
    return this.isEscaped ? 0 : FIELDS[what].until.get(block.view, base);
  }

  /** How much more may be used (check_bdq, check_idq): infinite without limits, below 0 when it is too much already. */
  room(what: Resource, nowSeconds: number): number {
    const used = this.used(what);
    const hard = this.hardLimit(what);
    const soft = this.softLimit(what);
    const end = this.graceEnd(what);
    const graceOver = soft > 0 && end > 0 && nowSeconds >= end;
    return Math.min(
      hard > 0 ? hard - used : Number.POSITIVE_INFINITY,
      graceOver ? soft - used : Number.POSITIVE_INFINITY,
    );
  }

  /** Nothing is used and nothing limited: no entry is needed (DQ_FAKE_B, qtree_release_dquot). */
  get isNeedless(): boolean {
    const { block, base } = this.place;
    for (const { used, hard, soft } of [FIELDS.space, FIELDS.inodes]) {
      if (used.get(block.view, base) + hard.get(block.view, base) + soft.get(block.view, base) !== 0) return false;
    }
    return true;
  }

  /** A time of 1 in an entry that would otherwise look unused means nothing. */
  protected get isEscaped(): boolean {
    return QUOTA_ENTRY.dqb_itime.get(this.place.block.view, this.place.base) === 1 && this.isNeedless;
  }
}

export class WritableQuotaEntry extends QuotaEntry {
  declare protected readonly place: WritableQuotaBlock;

  private get view(): WriteView {
    return this.place.block.view;
  }

  /** dquot_incr_space, dquot_decr_space and theirs for inodes; `grace` where limits are enforced. */
  add(what: Resource, amount: number, grace: Grace | null): void {
    const { base } = this.place;
    const { used, until } = FIELDS[what];
    if (this.isEscaped) QUOTA_ENTRY.dqb_itime.set(this.view, base, 0);
    const now = Math.max(0, this.used(what) + amount);
    used.set(this.view, base, now);
    const soft = this.softLimit(what);
    if (amount < 0) {
      if (now <= soft) until.set(this.view, base, 0);
    } else if (grace !== null && soft > 0 && now > soft && this.graceEnd(what) === 0) {
      until.set(this.view, base, grace.nowSeconds + grace.graceSeconds);
    }
    this.escape();
  }

  /** The grace for a soft limit that is exceeded already begins now. */
  setLimits(what: Resource, { soft, hard }: Limits, { nowSeconds, graceSeconds }: Grace): void {
    const { base } = this.place;
    const fields = FIELDS[what];
    if (this.isEscaped) QUOTA_ENTRY.dqb_itime.set(this.view, base, 0);
    fields.soft.set(this.view, base, Math.ceil(soft / fields.unit));
    fields.hard.set(this.view, base, Math.ceil(hard / fields.unit));
    fields.until.set(this.view, base, soft > 0 && this.used(what) > soft ? nowSeconds + graceSeconds : 0);
    this.escape();
  }

  /** What is all zero looks like no entry. */
  private escape(): void {
    if (isUnused(this.place.block, this.place.base)) QUOTA_ENTRY.dqb_itime.set(this.view, this.place.base, 1);
  }
}
