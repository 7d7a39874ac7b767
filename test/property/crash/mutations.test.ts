/** The harness itself: a fault in the order of writes is noticed, whichever it is. */
import assert from 'node:assert/strict';
import { Campaign } from './campaign.js';
import { Tally } from './explorer.js';
import { formatNamed } from './formats.js';
import { MUTATIONS } from './mutations.js';

/** Workloads until it must have been noticed. */
const ENOUGH = 600;
/** Fixed, so that the same workloads meet the engine with and without its fault. */
const SEED = 20_251_101;

describe('the crash explorer notices', function () {
  this.timeout(300_000);

  it('nothing in an engine without a fault', async () => {
    const campaign = new Campaign(formatNamed('1k'), new Tally(), { nestedEach: 16 });
    await campaign.random(SEED, 40);
  });

  for (const { name, format = '1k', aged, ops, recordOnly, nestedEach, apply } of MUTATIONS) {
    it(name, async () => {
      const campaign = new Campaign(formatNamed(format), new Tally(), { aged, ops, recordOnly, nestedEach });
      const undo = apply();
      let noticed: unknown = null;
      try {
        await campaign.random(SEED, ENOUGH, undefined, { shrink: false });
      } catch (error) {
        noticed = error;
      } finally {
        undo();
      }
      assert.ok(noticed instanceof Error, `${ENOUGH} workloads showed nothing`);
      console.log(`        ${noticed.message.split('\n')[0].slice(0, 110)}`);
    });
  }
});
