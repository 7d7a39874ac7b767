/** Quota files: that what they say users, groups and projects use is what the inodes in use add up to. */
import { type Ino, Inode } from '../inode.js';
import { QuotaEntry } from '../quota/quota-entry.js';
import { QuotaFile, type QuotaType } from '../quota/quota-file.js';
import { QuotaTree } from '../quota/quota-tree.js';
import { isCounted, ownersOf, usageOf } from '../quota/quotas.js';
import type { Volume } from '../volume.js';
import type { Findings } from './findings.js';

interface Usage {
  bytes: number;
  inodes: number;
}

export function checkQuotas(vol: Volume, findings: Findings, used: Iterable<Ino>): void {
  const { quotaInums } = vol.geometry;
  if (quotaInums.size === 0) return;
  const found = new Map<QuotaType, Map<number, Usage>>();
  for (const type of quotaInums.keys()) found.set(type, new Map());
  for (const ino of used) findings.collect(() => count(Inode.load(vol, ino), found));
  for (const [type, ino] of quotaInums) {
    findings.collect(() => compare(vol, findings, type, ino, found.get(type) ?? new Map()));
  }
}

function count(inode: Inode, found: ReadonlyMap<QuotaType, Map<number, Usage>>): void {
  if (!isCounted(inode)) return;
  const owners = ownersOf(inode);
  const { bytes, inodes } = usageOf(inode);
  for (const [type, ids] of found) {
    let usage = ids.get(owners[type]);
    if (usage === undefined) {
      usage = { bytes: 0, inodes: 0 };
      ids.set(owners[type], usage);
    }
    usage.bytes += bytes;
    usage.inodes += inodes;
  }
}

function compare(vol: Volume, findings: Findings, type: QuotaType, ino: Ino, found: Map<number, Usage>): void {
  const structure = `${type} quota file`;
  new QuotaTree(new QuotaFile(vol, type, ino)).forEach((place) => {
    const entry = new QuotaEntry(place);
    const { id } = entry;
    const { bytes, inodes } = found.get(id) ?? { bytes: 0, inodes: 0 };
    found.delete(id);
    if (entry.used('space') !== bytes || entry.used('inodes') !== inodes) {
      const stored = `${entry.used('space')} bytes and ${entry.used('inodes')} inodes`;
      findings.add(structure, `id ${id}`, `${stored}, found ${bytes} and ${inodes}`);
    }
  });
  for (const [id, { bytes, inodes }] of found) {
    findings.add(structure, `id ${id}`, `no entry, found ${bytes} bytes and ${inodes} inodes`);
  }
}
