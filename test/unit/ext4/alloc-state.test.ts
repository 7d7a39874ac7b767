/** What the allocator knows of groups, against a plain list of limits. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { AllocatorState } from '../../../src/ext4/alloc-state.js';
import type { Volume } from '../../../src/ext4/volume.js';
import { checkProperty } from '../../support/property.js';

const GROUPS = 1000;
const LARGEST = 32768;

const group = fc.nat(GROUPS - 1);
const length = fc.oneof(fc.nat(8), fc.nat(LARGEST));

const step = fc.oneof(
  fc.record({ what: fc.constant('longest' as const), group, length }),
  // As a full filesystem is: a long row of groups with hardly anything.
  fc.record({ what: fc.constant('row' as const), group, length }),
  fc.record({ what: fc.constant('free' as const), group, length }),
  fc.record({ what: fc.constant('search' as const), group, length }),
);

const stateOf = () =>
  new AllocatorState({ geometry: { groupCount: GROUPS, blocksCount: GROUPS * LARGEST, clusterRatio: 1 } } as Volume);

describe('search for a group', () => {
  it('passes over exactly those that cannot have the run', () => {
    checkProperty(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const state = stateOf();
        const limits: number[] = new Array(GROUPS).fill(Number.POSITIVE_INFINITY);
        const note = (of: number, longest: number) => {
          state.noteLongestRun(of, longest);
          limits[of] = longest;
        };
        for (const { what, group: at, length: clusters } of steps) {
          if (what === 'longest') note(at, clusters);
          else if (what === 'row') for (let of = at; of < GROUPS; of++) note(of, clusters % 9);
          else if (what === 'free') {
            state.noteFree(at, 0);
            limits[at] = Number.POSITIVE_INFINITY;
          } else {
            for (const end of [GROUPS, (at + GROUPS) >> 1, at]) {
              const found = limits.findIndex((limit, of) => of >= at && of < end && limit >= clusters);
              assert.equal(state.nextWithRun(at, end, clusters), found < 0 ? end : found);
            }
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});
