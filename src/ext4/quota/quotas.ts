/**
 * Disk quotas (the quota feature): what users, groups and projects use is counted in hidden files, in the same handle as
 * the change itself, so that after any crash the counts fit what is there. Limits are enforced where the mount asks for
 * it. Kernel: fs/quota/dquot.c, ext4_enable_quotas.
 */
import { FsError } from '../../errors.js';
import type { Handle } from '../../jbd2/handle.js';
import { EXT4_EA_INODE_FL, EXT4_ROOT_INO } from '../format/inode.js';
import type { Inode } from '../inode.js';
import type { Volume } from '../volume.js';
import { externalAttributes } from '../xattr.js';
import { type Grace, type Limits, QuotaEntry, type Resource, WritableQuotaEntry } from './quota-entry.js';
import { QuotaFile, type QuotaType } from './quota-file.js';
import { QuotaTree } from './quota-tree.js';

/** Whom an inode is counted for. */
export type Owners = Readonly<Record<QuotaType, number>>;

interface Account {
  readonly type: QuotaType;
  readonly tree: QuotaTree;
  readonly enforced: boolean;
}

/**
 * Blocks that one handle may change in one quota file: a new entry with its way through the tree (4), its place in the
 * file (header, inode, two lists, bitmaps, descriptors, extents), and an old one that goes.
 */
const CREDITS_PER_FILE = 24;

export class Quotas {
  private readonly vol: Volume;
  private readonly accounts: readonly Account[];
  private caller: { readonly uid: number } | null = { uid: 0 };

  /** Throws CorruptionError for a quota file that is none. */
  constructor(vol: Volume) {
    this.vol = vol;
    const { policy, geometry } = vol;
    const enforced = { user: policy.userLimits, group: policy.groupLimits, project: policy.projectLimits };
    this.accounts = [...geometry.quotaInums].map(([type, ino]) => ({
      type,
      tree: new QuotaTree(new QuotaFile(vol, type, ino)),
      enforced: enforced[type],
    }));
  }

  /** What every handle may need besides its own. */
  get credits(): number {
    return CREDITS_PER_FILE * this.accounts.length;
  }

  get enforcesAny(): boolean {
    return this.accounts.some(({ enforced }) => enforced);
  }

  /** Who asks for what comes next: limits do not hold for root, who it is at first. Null: the owner of the inode stands in. */
  actAs(caller: { readonly uid: number } | null): void {
    this.caller = caller;
  }

  /** Changes of i_blocks, in bytes. Whether it may grow was asked before: {@link roomFor}. */
  addSpace(handle: Handle, inode: Inode, bytes: number): void {
    this.add(handle, inode, 'space', bytes);
  }

  /** A new inode, which uses nothing but itself. Throws FsError EDQUOT. */
  addInode(handle: Handle, inode: Inode): void {
    if (isCounted(inode)) this.checkInodes(inode, ownersOf(inode), 1);
    this.add(handle, inode, 'inodes', 1);
  }

  /** Values of attributes in inodes of their own, got or given up, which count for the inode that has the entries. */
  addValues(handle: Handle, inode: Inode, count: number): void {
    this.add(handle, inode, 'inodes', count);
  }

  /** Throws FsError EDQUOT if the owners may not have so much more, all of it. */
  mustHaveRoom(inode: Inode, blocks: number, inodes: number): void {
    if (!isCounted(inode)) return;
    const owners = ownersOf(inode);
    this.checkInodes(inode, owners, inodes);
    if (blocks > 0 && this.roomFor(inode, blocks) < blocks)
      throw new FsError('EDQUOT', `the quota leaves no room for ${blocks} blocks`);
  }

  /** The inode ends, and with it all that is still counted for it; its attributes are gone already. */
  release(handle: Handle, inode: Inode): void {
    this.add(handle, inode, 'space', -inode.sectors * 512);
    this.add(handle, inode, 'inodes', -1);
  }

  /** How many of `wanted` blocks the inode's owners may have, in whole clusters: at least one, or FsError EDQUOT. */
  roomFor(inode: Inode, wanted: number): number {
    if (!this.enforcesAny || !isCounted(inode) || this.mayExceed(inode)) return wanted;
    const owners = ownersOf(inode);
    const { blockSize, clusterRatio } = this.vol.geometry;
    let room = wanted;
    for (const account of this.accounts) {
      const bytes = this.roomOf(account, owners[account.type], 'space');
      const clusters = Math.floor(bytes / (blockSize * clusterRatio));
      if (clusters < 1) throw exceeded(account, owners);
      room = Math.min(room, clusters * clusterRatio);
    }
    return room;
  }

  /** The inode, and all that it uses, is counted for others from now on. Throws FsError EDQUOT. */
  transfer(handle: Handle, inode: Inode, to: Partial<Owners>): void {
    if (!isCounted(inode)) return;
    const from = ownersOf(inode);
    const { bytes, inodes } = usageOf(inode);
    for (const account of this.accounts) {
      const id = to[account.type];
      if (id === undefined || id === from[account.type]) continue;
      if (account.enforced && !this.mayExceed(inode)) {
        const room = this.roomOf(account, id, 'space');
        if ((bytes > 0 && room < bytes) || this.roomOf(account, id, 'inodes') < inodes) throw exceeded(account, to);
      }
      this.addTo(handle, account, id, 'inodes', inodes);
      this.addTo(handle, account, id, 'space', bytes);
      this.addTo(handle, account, from[account.type], 'inodes', -inodes);
      this.addTo(handle, account, from[account.type], 'space', -bytes);
    }
  }

  /** The entry of an id, for looking only; null if it has none, or nothing of its kind is counted. */
  entryOf(type: QuotaType, id: number): QuotaEntry | null {
    const place = this.accounts.find((each) => each.type === type)?.tree.find(id) ?? null;
    return place === null ? null : new QuotaEntry(place);
  }

  /** Sets limits (do_set_dqblk); an entry that nothing needs any more goes. Throws FsError EINVAL without such a file. */
  setLimits(handle: Handle, type: QuotaType, id: number, limits: Partial<Record<Resource, Limits>>): void {
    const account = this.account(type);
    const entry = new WritableQuotaEntry(account.tree.edit(handle, id));
    for (const what of ['space', 'inodes'] as const) {
      const limit = limits[what];
      if (limit !== undefined) entry.setLimits(what, limit, this.graceOf(account, what));
    }
    if (entry.isNeedless) account.tree.remove(handle, id);
  }

  /** Seconds that a soft limit may be exceeded for. Throws FsError EINVAL. */
  setGrace(handle: Handle, type: QuotaType, what: Resource, seconds: number): void {
    this.account(type).tree.file.setHeader(handle, graceField(what), seconds);
  }

  grace(type: QuotaType, what: Resource): number {
    return this.account(type).tree.file.header(graceField(what));
  }

  /** Every entry of one kind, in no order. Throws CorruptionError. */
  forEach(type: QuotaType, visit: (entry: QuotaEntry) => void): void {
    this.account(type).tree.forEach((place) => {
      visit(new QuotaEntry(place));
    });
  }

  private account(type: QuotaType): Account {
    const account = this.accounts.find((each) => each.type === type);
    if (account === undefined) throw new FsError('EINVAL', `there are no quotas for each ${type}`);
    return account;
  }

  enforces(type: QuotaType): boolean {
    return this.accounts.some((account) => account.type === type && account.enforced);
  }

  private add(handle: Handle, inode: Inode, what: Resource, amount: number): void {
    if (amount === 0 || !isCounted(inode)) return;
    const owners = ownersOf(inode);
    for (const account of this.accounts) this.addTo(handle, account, owners[account.type], what, amount);
  }

  private addTo(handle: Handle, account: Account, id: number, what: Resource, amount: number): void {
    const { tree } = account;
    if (amount === 0 || (amount < 0 && tree.find(id) === null)) return;
    const entry = new WritableQuotaEntry(tree.edit(handle, id));
    entry.add(what, amount, account.enforced ? this.graceOf(account, what) : null);
    if (entry.isNeedless) tree.remove(handle, id);
  }

  private checkInodes(inode: Inode, owners: Owners, count: number): void {
    if (!this.enforcesAny || this.mayExceed(inode)) return;
    for (const account of this.accounts) {
      if (this.roomOf(account, owners[account.type], 'inodes') < count) throw exceeded(account, owners);
    }
  }

  private roomOf({ tree, enforced }: Account, id: number, what: Resource): number {
    const place = enforced ? tree.find(id) : null;
    return place === null ? Number.POSITIVE_INFINITY : new QuotaEntry(place).room(what, this.now);
  }

  private graceOf({ tree }: Account, what: Resource): Grace {
    return { nowSeconds: this.now, graceSeconds: tree.file.header(graceField(what)) };
  }

  /** CAP_SYS_RESOURCE (ignore_hardlimit) */
  private mayExceed(inode: Inode): boolean {
    return (this.caller ?? inode).uid === 0;
  }

  private get now(): number {
    return this.vol.env.now().seconds;
  }
}

/** False for what belongs to the filesystem itself (S_NOQUOTA), and for attribute values, which others pay for. */
export function isCounted(inode: Inode): boolean {
  if (inode.ino === EXT4_ROOT_INO) return true;
  return !inode.vol.geometry.isOwnInode(inode.ino) && !inode.hasFlag(EXT4_EA_INODE_FL);
}

/**
 * What an inode counts for with its owners: values of its attributes are in its i_blocks, and an inode each however many
 * share them (ext4_get_inode_usage). Throws CorruptionError.
 */
export function usageOf(inode: Inode): { readonly bytes: number; readonly inodes: number } {
  return { bytes: inode.sectors * 512, inodes: 1 + externalAttributes(inode).length };
}

export function ownersOf(inode: Inode): Owners {
  return { user: inode.uid, group: inode.gid, project: inode.projectId };
}

const graceField = (what: Resource) => (what === 'space' ? 'dqi_bgrace' : 'dqi_igrace');

function exceeded({ type }: Account, owners: Partial<Owners>): FsError {
  return new FsError('EDQUOT', `the quota of ${type} ${owners[type]} is used up`);
}
