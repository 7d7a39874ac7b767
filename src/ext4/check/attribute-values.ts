/** Values in inodes of their own: that each is what its entries say, and is referred to as often as it says. */
import { CorruptionError } from '../../errors.js';
import { chargedBlocks, describeValue, readExternalValue } from '../ea-inode.js';
import { type Ino, Inode } from '../inode.js';
import type { Volume } from '../volume.js';
import { blockAttributes, inodeAttributes } from '../xattr.js';
import type { Attribute } from '../xattr-entries.js';
import type { Findings } from './findings.js';

interface Value {
  entries: number;
  /** What its inode says. */
  readonly references: number;
}

export class AttributeValueCheck {
  private readonly vol: Volume;
  private readonly findings: Findings;
  private readonly values = new Map<Ino, Value>();
  /** A shared block counts once. */
  private readonly blocks = new Set<number>();

  constructor(vol: Volume, findings: Findings) {
    this.vol = vol;
    this.findings = findings;
  }

  /** Looks at the entries of an inode. Returns the blocks of their values, which count as its own. */
  noteOwner(inode: Inode): number {
    const inInode = this.findings.collect(() => inodeAttributes(inode)) ?? [];
    const inBlock = this.findings.collect(() => blockAttributes(inode)) ?? [];
    this.noteEntries(inode, inInode);
    if (!this.blocks.has(inode.fileAcl)) this.noteEntries(inode, inBlock);
    this.blocks.add(inode.fileAcl);
    return [...inInode, ...inBlock].reduce((sum, attribute) => sum + this.blocksOf(inode, attribute), 0);
  }

  /** After all owners; `inos` are all inodes that hold values. */
  compare(inos: Iterable<Ino>): void {
    for (const ino of inos) {
      const value = this.values.get(ino);
      const place = `inode ${ino}`;
      if (value === undefined) {
        if (Inode.load(this.vol, ino).linksCount > 0)
          this.findings.add('attribute value', place, 'no entry refers to it');
      } else if (value.entries !== value.references) {
        const finding = `${value.references} references, ${value.entries} entries refer to it`;
        this.findings.add('attribute value', place, finding);
      }
    }
  }

  private blocksOf(owner: Inode, attribute: Attribute): number {
    try {
      return chargedBlocks(owner, attribute);
    } catch (error) {
      // Noted with the entry.
      if (!(error instanceof CorruptionError)) throw error;
      return 0;
    }
  }

  private noteEntries(owner: Inode, attributes: readonly Attribute[]): void {
    for (const attribute of attributes) {
      const { external } = attribute;
      if (external !== null) this.findings.collect(() => this.noteEntry(owner, attribute, external.ino));
    }
  }

  private noteEntry(owner: Inode, attribute: Attribute, ino: Ino): void {
    const known = this.values.get(ino);
    if (known !== undefined) {
      known.entries++;
      return;
    }
    if (attribute.external === null) return;
    const { references, links } = describeValue(owner, attribute.external);
    this.values.set(ino, { entries: 1, references });
    if (links !== 1) this.findings.add('attribute value', `inode ${ino}`, `${links} links`);
    readExternalValue(owner, attribute);
  }
}
