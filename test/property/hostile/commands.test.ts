/** Hostile images in front of the commands that look at images without mounting them. */
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runCheck } from '../../../src/cli/check.js';
import { ImageExit } from '../../../src/cli/exit-codes.js';
import { runInfo } from '../../../src/cli/info.js';
import { runJournal } from '../../../src/cli/journal.js';
import { runQuota } from '../../../src/cli/quota.js';
import { runReplay } from '../../../src/cli/replay.js';
import { scratchDirectory } from '../../support/mke2fs.js';
import { Campaign } from './campaign.js';

const IMAGES = [
  '1k-quota',
  '1k-dirty',
  '1k-orphan-file',
  '1k-fast-commit-dirty',
  'ext3-dirty',
  '4k-dirty',
  '1k-encrypt-verity',
];
const PLANS = Number(process.env.EXT4D_PLANS ?? 5);
const MAX_MS = 5000;

const COMMANDS: readonly (readonly [name: string, run: (path: string) => number])[] = [
  ['info', (path) => runInfo([path])],
  ['journal', (path) => runJournal([path])],
  ['journal --json', (path) => runJournal(['--json', path])],
  ['check', (path) => runCheck([path])],
  ['quota', (path) => runQuota([path])],
  ['replay -n', (path) => runReplay(['-n', path])],
  ['replay', (path) => runReplay([path])],
];
const EXIT_CODES: readonly number[] = [ImageExit.OK, ImageExit.RECOVERED, ImageExit.CORRUPT];

/** Without what it prints. */
function quietly<T>(work: () => T): T {
  const { stdout, stderr } = process;
  const writes = [stdout.write, stderr.write];
  stdout.write = () => true;
  stderr.write = () => true;
  try {
    return work();
  } finally {
    [stdout.write, stderr.write] = writes;
  }
}

describe('commands that look at a hostile image', function () {
  this.timeout(300_000);

  it('end soon, with an exit code of theirs', async () => {
    const seed = Number(process.env.EXT4D_SEED ?? Date.now() & 0x3fffffff);
    const directory = scratchDirectory();
    const path = join(directory, 'image');
    try {
      for (const name of IMAGES) {
        const campaign = await Campaign.on(name);
        for (const plan of campaign.sample(seed, PLANS)) {
          writeFileSync(path, campaign.trial.damaged(plan));
          for (const [command, run] of COMMANDS) {
            const started = performance.now();
            try {
              assert.ok(EXIT_CODES.includes(quietly(() => run(path))));
              assert.ok(performance.now() - started < MAX_MS, 'it takes too long');
            } catch (error) {
              const { stack } = error as Error;
              throw new Error(`ext4d ${command}: ${stack}\nEXT4D_SEED=${seed}\n${campaign.story(plan)}`);
            }
          }
        }
      }
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
