/**
 * Every crash state of thousands of small histories is recovered and looked at. `npm run test:crash -- --hours N` goes on
 * for longer; this is the slice that fits in a test run.
 */
import { Campaign } from './campaign.js';
import { Tally } from './explorer.js';
import { FORMATS } from './formats.js';

const RUNS = Number(process.env.EXT4D_RUNS ?? 25);
/** A share of all sequences of two operations, another one each day. */
const PAIRS_EACH = 200;
/** Formats on which single operations and pairs are tried here; `npm run test:crash` takes all. */
const EXHAUSTIVE_ON = ['1k', '1k-orphan-file'];
const OPTIONS = { nestedEach: 32, e2fsckEach: 400 };

describe('after a crash at any moment', function () {
  this.timeout(600_000);

  for (const format of FORMATS) {
    it(`a mount finds what the history allows, and nothing else (${format.name}, random workloads)`, async () => {
      const { EXT4D_SEED: seed, EXT4D_PATH: path } = process.env;
      await measured(format.name, async (tally) => {
        const campaign = new Campaign(format, tally, OPTIONS);
        await campaign.random(seed === undefined ? Date.now() & 0x7fffffff : Number(seed), RUNS, path);
      });
    });

    if (!EXHAUSTIVE_ON.includes(format.name)) continue;
    it(`a mount finds what the history allows (${format.name}, all single operations and one in ${PAIRS_EACH} of all pairs)`, async () => {
      await measured(format.name, async (tally) => {
        const campaign = new Campaign(format, tally, OPTIONS);
        const offset = Math.floor(Date.now() / 86_400_000);
        await campaign.exhaustive(1, () => true);
        await campaign.exhaustive(2, (index) => index % PAIRS_EACH === offset % PAIRS_EACH);
      });
    });
  }
});

async function measured(name: string, explore: (tally: Tally) => Promise<void>): Promise<void> {
  const tally = new Tally();
  const started = performance.now();
  await explore(tally);
  const seconds = (performance.now() - started) / 1000;
  console.log(`        ${name}: ${tally.summary(seconds)}`);
}
