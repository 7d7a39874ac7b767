/**
 * `npm run test:hostile -- [--hours N | --count N] [--image NAME] [--seed S [--path P]] [--plan JSON]`
 *
 * Hostile images, one process for each processor, until the time is over or so many structures were corrupted; or one plan.
 * A process that does not come back from an image, or dies of it, is a failure like any other: what it was about to try is
 * in a file. Exit code 1 if the engine did what no image may make it do.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { useNativeCrc32c } from '../../../src/codec/crc.js';
import { loadNative } from '../../../src/native.js';
import { scratchDirectory } from '../../support/mke2fs.js';
import { Campaign, Tally } from './campaign.js';
import type { Plan } from './damage.js';
import { IMAGE_NAMES } from './images.js';
import { KINDS } from './structures.js';
import { catchStrays } from './trial.js';

const { values } = parseArgs({
  options: {
    hours: { type: 'string' },
    count: { type: 'string' },
    image: { type: 'string' },
    seed: { type: 'string' },
    path: { type: 'string' },
    plan: { type: 'string' },
    processes: { type: 'string' },
    /** Set by this program for its own processes: which of how many, and the file for what is being tried. */
    share: { type: 'string' },
    notes: { type: 'string' },
  },
});

const DEFAULT_HOURS = 0.05;
const names = values.image === undefined ? IMAGE_NAMES : [values.image];
const RUNS_PER_SEED = 50;
/** The images with deep trees take several times as long: they get every fourth round. */
const SLOW_EACH = 4;
/** A trial takes milliseconds; a batch of them is told of at its end. */
const SILENCE_MEANS_HANGING_MS = 60_000;
const TOLD_EACH_MS = 60_000;
/** A tenth of what an unbounded allocation would ask for. */
const HEAP_MIB = 512;

interface Report {
  readonly tally: Tally;
  readonly failure?: string;
}

function numberOf(option: 'hours' | 'count', otherwise: number): number {
  const text = values[option];
  const value = text === undefined ? otherwise : Number(text);
  if (value >= 0) return value;
  console.error(`--${option} ${text}: not a number`);
  process.exit(2);
}

const count = numberOf('count', Number.POSITIVE_INFINITY);
const hours = numberOf('hours', values.count === undefined ? DEFAULT_HOURS : Number.POSITIVE_INFINITY);

async function runPlan(plan: Plan): Promise<void> {
  const campaign = await Campaign.on(names[0]);
  console.log(campaign.story(plan));
  try {
    console.log(`nothing wrong: ${await campaign.try(plan)}`);
  } catch (error) {
    console.log(error);
    process.exitCode = 1;
  }
}

/** One process's share of the work; tells the parent what it has done. */
async function work(index: number, processes: number, notes: number): Promise<void> {
  const until = Date.now() + hours * 3_600_000;
  const firstSeed = values.seed === undefined ? Date.now() & 0x3fffffff : Number(values.seed);
  const announce = (image: string, plan: Plan) => {
    writeSync(notes, `${JSON.stringify({ image, plan })}\n`, 0);
  };
  // Each is made when it is first needed: a short run is to try images, not to make them.
  const campaigns = new Map<string, Campaign>();
  const campaignOn = async (name: string) => {
    const campaign = campaigns.get(name) ?? (await Campaign.on(name, announce));
    campaigns.set(name, campaign);
    return campaign;
  };
  let done = 0;
  const enough = () => Date.now() >= until || done * processes >= count;
  try {
    // Each process begins with another image: a short run has a look at most of them.
    const first = (firstSeed + Math.floor((index * names.length) / processes)) % names.length;
    const order = [...names.slice(first), ...names.slice(0, first)];
    for (let round = 0; round === 0 || !enough(); round++) {
      const seed = (firstSeed + (round * processes + index) * 7919) & 0x7fffffff;
      for (const name of order) {
        if (done > 0 && enough()) break;
        const campaign = await campaignOn(name);
        if (campaign.slow && round % SLOW_EACH !== SLOW_EACH - 1 && names.length > 1) continue;
        const tally = new Tally();
        await campaign.random(seed, RUNS_PER_SEED, tally, values.path);
        done += tally.structures;
        process.send?.({ tally } satisfies Report);
      }
      if (values.path !== undefined) break;
    }
  } catch (error) {
    const failure = error instanceof Error ? error.message : String(error);
    process.send?.({ tally: new Tally(), failure } satisfies Report);
    process.exitCode = 1;
  }
  // Strays are caught, so nothing else would end a process that has a timer left.
  if (process.connected) process.disconnect();
}

/** A process at work, watched. */
class Worker {
  readonly child: ChildProcess;
  private readonly notes: string;
  private heard = performance.now();

  constructor(index: number, processes: number, directory: string) {
    this.notes = join(directory, `trying-${index}`);
    const share = ['--share', `${index}/${processes}`, '--notes', this.notes];
    this.child = fork(fileURLToPath(import.meta.url), [...process.argv.slice(2), ...share], {
      execArgv: [`--max-old-space-size=${HEAP_MIB}`],
    });
  }

  hears(): void {
    this.heard = performance.now();
  }

  get hangs(): boolean {
    const { exitCode, signalCode } = this.child;
    return exitCode === null && signalCode === null && performance.now() - this.heard > SILENCE_MEANS_HANGING_MS;
  }

  /** What it was trying last. */
  story(what: string): string {
    const [note] = readFileSync(this.notes, 'utf8').split('\n');
    if (note === '') return `${what} before it tried anything`;
    const { image, plan } = JSON.parse(note) as { image: string; plan: Plan };
    return `${what}\nTo run it again: npm run test:hostile -- --image ${image} --plan '${JSON.stringify(plan)}'`;
  }
}

/** Starts the processes, adds up what they did, and ends them all when one has failed. */
function supervise(): void {
  const processes = values.path === undefined ? Number(values.processes ?? availableParallelism()) : 1;
  const directory = scratchDirectory();
  const total = new Tally();
  const started = performance.now();
  const seconds = () => (performance.now() - started) / 1000;
  const workers = Array.from({ length: processes }, (_, index) => new Worker(index, processes, directory));
  let running = processes;
  let failed = false;
  const fail = (failure: string) => {
    if (!failed) console.log(`\n${failure}\n`);
    failed = true;
    for (const { child } of workers) child.kill('SIGKILL');
  };
  const told = setInterval(() => console.log(total.summary(seconds())), TOLD_EACH_MS);
  const watched = setInterval(() => {
    for (const worker of workers) if (worker.hangs) fail(worker.story('a process does not come back'));
  }, 1000);
  for (const worker of workers) {
    worker.child.on('message', (message: Report) => {
      worker.hears();
      total.add(message.tally);
      if (message.failure !== undefined) fail(message.failure);
    });
    worker.child.on('exit', (code, signal) => {
      if (!failed && (code !== 0 || signal !== null))
        fail(worker.story(`a process ended with ${signal ?? `code ${code}`}`));
      if (--running > 0) return;
      clearInterval(told);
      clearInterval(watched);
      rmSync(directory, { recursive: true, force: true });
      for (const kind of KINDS) console.log(`${String(total.kinds[kind] ?? 0).padStart(9)} ${kind}`);
      console.log(`all: ${total.summary(seconds())}, ${processes} processes, ${Math.round(seconds())} s`);
      process.exitCode = failed ? 1 : 0;
    });
  }
}

if (values.share === undefined && values.plan === undefined) supervise();
else {
  const native = loadNative();
  if (native !== null) useNativeCrc32c(native.crc32c);
  catchStrays();
  if (values.plan !== undefined) await runPlan(JSON.parse(values.plan) as Plan);
  else {
    const [index, processes] = (values.share ?? '0/1').split('/').map(Number);
    await work(index, processes, openSync(values.notes ?? '/dev/null', 'w'));
  }
}
