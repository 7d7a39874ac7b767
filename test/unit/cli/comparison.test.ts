/** docs/COMPARISON.md says of ext4d what src/ext4/features.ts does. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { COMPAT, describeFeatures, type FeatureSet, INCOMPAT, RO_COMPAT } from '../../../src/ext4/features.js';
import { EXT4D } from '../../support/server.js';

const BITS: Readonly<Record<FeatureSet, Readonly<Record<string, number>>>> = {
  compat: COMPAT,
  incompat: INCOMPAT,
  ro_compat: RO_COMPAT,
};
const WORDS = { rw: 'read-write', ro: 'read-only', no: 'refused' } as const;

/** What nobody has, or is a state and not a feature. */
const UNTOLD = new Set([
  ...['dir_prealloc', 'imagic_inodes', 'ext_attr', 'resize_inode', 'dir_index', 'compression', 'filetype', 'dirdata'],
  ...['needs_recovery', 'journal_dev', 'btree_dir', 'extra_isize', 'replica', 'orphan_present', 'has_journal'],
]);

describe('the comparison table', () => {
  const text = readFileSync(join(dirname(dirname(EXT4D)), 'docs', 'COMPARISON.md'), 'utf8');
  const rows = text
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .map((line) => line.split('|').map((cell) => cell.trim()));

  for (const [set, names] of Object.entries(BITS) as [FeatureSet, Record<string, number>][]) {
    for (const [name, bit] of Object.entries(names)) {
      if (UNTOLD.has(name)) continue;
      it(`says what is done with ${name}`, () => {
        const [{ support }] = describeFeatures(set, bit);
        const found = rows.filter(([, first]) => first.includes(`\`${name}\``));
        assert.equal(found.length, 1, `one row of docs/COMPARISON.md names \`${name}\``);
        assert.ok(found[0][2].startsWith(WORDS[support]), `${name} is ${WORDS[support]}; the table: ${found[0][2]}`);
      });
    }
  }
});
