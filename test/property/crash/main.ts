/**
 * `npm run test:crash -- [--hours N] [--format NAME] [--seed S [--path P]] [--script JSON [--crash POINT]]`
 *
 * Without a script: all sequences of one and of two core operations on every format, then random workloads and sequences
 * of three until the time is over, one process for each processor. With one: that script, and all or one of its crash
 * points. Exit code 1 if a mount did not get over a crash.
 */
import { fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { QUICK, THOROUGH } from '../../../src/crash/crash-points.js';
import { Campaign } from './campaign.js';
import type { Command } from './commands.js';
import { CrashFailure, type ExploreOptions, Tally } from './explorer.js';
import { FORMATS, type Format, formatNamed } from './formats.js';

const { values } = parseArgs({
  options: {
    hours: { type: 'string', default: '0.05' },
    format: { type: 'string' },
    seed: { type: 'string' },
    path: { type: 'string' },
    script: { type: 'string' },
    crash: { type: 'string' },
    /** Set by this program for its own processes: which of how many. */
    share: { type: 'string' },
  },
});

const formats: readonly Format[] = values.format === undefined ? FORMATS : [formatNamed(values.format)];
const OPTIONS: ExploreOptions = { thoroughness: QUICK, nestedEach: 32, e2fsckEach: 4000 };
const RUNS_PER_SEED = 100;
/** How often a process tells what it has done. */
const TOLD_EACH_MS = 5000;

interface Report {
  readonly stage: string;
  readonly tally: Tally;
  readonly failure?: string;
}

const hours = Number(values.hours);
if (!(hours >= 0)) {
  console.error(`--hours ${values.hours}: not a number`);
  process.exit(2);
}

async function runScript(script: string): Promise<void> {
  const tally = new Tally();
  const campaign = new Campaign(formats[0], tally);
  const commands = JSON.parse(script) as Command[];
  try {
    await campaign.try(commands, { ...OPTIONS, thoroughness: THOROUGH, only: values.crash });
    console.log(`nothing wrong: ${tally.states} crash states`);
  } catch (error) {
    console.log(error instanceof CrashFailure ? `at ${error.point}: ${error.message}` : error);
    process.exitCode = 1;
  }
}

/** One process's share of the work; tells the parent what it has done. */
async function work(index: number, count: number): Promise<void> {
  const until = Date.now() + hours * 3_600_000;
  const late = () => Date.now() >= until;
  const stages: [string, (campaign: Campaign) => Promise<void>][] = [1, 2].map((length) => [
    `all sequences of ${length}`,
    (campaign) => campaign.exhaustive(length, (each) => each % count === index && !late()),
  ]);
  const firstSeed = values.seed === undefined ? Date.now() & 0x3fffffff : Number(values.seed);
  try {
    if (values.seed === undefined) {
      for (const [stage, run] of stages) for (const format of formats) await measured(stage, format, run);
    }
    for (let round = 0; round === 0 || !late(); round++) {
      const seed = firstSeed + (round * count + index) * 7919;
      for (const format of formats) {
        await measured('random workloads', format, (campaign) =>
          // A seed that was asked for is gone through whatever the time.
          campaign.random(seed, RUNS_PER_SEED, values.path, values.seed === undefined ? { late } : {}),
        );
        if (values.path !== undefined) return;
        const step = Math.floor(Campaign.sequences(format, 3) / 200);
        await measured('sequences of 3', format, (campaign) =>
          campaign.exhaustive(3, (each) => each % step === seed % step && !late()),
        );
      }
    }
  } catch (error) {
    tell({ stage: 'failed', tally: new Tally(), failure: error instanceof Error ? error.message : String(error) });
    process.exitCode = 1;
  }
}

async function measured(stage: string, format: Format, run: (campaign: Campaign) => Promise<void>): Promise<void> {
  const tally = new Tally();
  let told = performance.now();
  const onWorkload = () => {
    if (performance.now() - told < TOLD_EACH_MS) return;
    told = performance.now();
    tell({ stage, tally });
    tally.clear();
  };
  await run(new Campaign(format, tally, { ...OPTIONS, onWorkload }));
  tell({ stage, tally });
}

function tell(report: Report): void {
  if (process.send !== undefined) process.send(report);
}

/** How many workloads a stage has if nothing cuts it short. */
function outOf(stage: string): string {
  const length = Number(/^all sequences of (\d)$/.exec(stage)?.[1]);
  if (!(length > 0)) return '';
  return ` (of ${formats.reduce((sum, format) => sum + Campaign.sequences(format, length), 0)})`;
}

/** Starts the processes and adds up what they did. */
function supervise(): void {
  const processes = values.path === undefined ? availableParallelism() : 1;
  const totals = new Map<string, Tally>();
  const started = performance.now();
  const show = (final: boolean) => {
    const seconds = (performance.now() - started) / 1000;
    const all = new Tally();
    for (const tally of totals.values()) all.add(tally);
    if (final) for (const [stage, tally] of totals) console.log(`${stage}${outOf(stage)}: ${tally.counts()}`);
    console.log(
      `${final ? 'all: ' : ''}${all.summary(seconds)} on ${processes} processors in ${Math.round(seconds)} s`,
    );
  };
  const timer = setInterval(() => show(false), 60_000);
  let running = processes;
  let failed = false;
  const children = Array.from({ length: processes }, (_, index) =>
    fork(fileURLToPath(import.meta.url), [...process.argv.slice(2), '--share', `${index}/${processes}`]),
  );
  for (const child of children) {
    child.on('message', (message) => {
      const { stage, tally, failure } = message as Report;
      if (failure !== undefined) {
        console.log(`\n${failure}\n`);
        failed = true;
        for (const other of children) other.kill();
        return;
      }
      const total = totals.get(stage) ?? new Tally();
      totals.set(stage, total);
      total.add(tally);
    });
    child.on('exit', (code, signal) => {
      failed ||= code !== 0 && signal === null;
      if (--running > 0) return;
      clearInterval(timer);
      show(true);
      process.exitCode = failed ? 1 : 0;
    });
  }
}

if (values.script !== undefined) await runScript(values.script);
else if (values.share === undefined) supervise();
else {
  const [index, count] = values.share.split('/').map(Number);
  await work(index, count);
}
