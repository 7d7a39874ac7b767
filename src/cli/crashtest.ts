/**
 * `ext4d crashtest -- COMMAND...`: runs a program on a scratch filesystem, records every write and flush, and finds out
 * which crashes its promises do not survive.
 */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { MemoryDevice } from '../block/memory-device.js';
import { Random, type Thoroughness } from '../crash/crash-points.js';
import { htmlReport, lastOperations } from '../crash/html-report.js';
import { writeLogWrites } from '../crash/log-writes.js';
import { MountBusyError, type MountedOptions, runIn, whileMounted } from '../crash/mounted.js';
import { type Explored, exploreStates, imageAt, type Outcome, type StateKind } from '../crash/outcomes.js';
import { recordOperations } from '../crash/recorded-engine.js';
import { RecordingDevice } from '../crash/recording-device.js';
import { StateImage } from '../crash/state-image.js';
import type { LogEntry, LoggedWrite } from '../crash/write-log.js';
import { FsError } from '../errors.js';
import type { Filesystem } from '../ext4/filesystem.js';
import { readJournalMap } from '../ext4/journal-inode.js';
import { readGeometry } from '../ext4/open.js';
import { parseArguments, UsageError } from './args.js';
import { CommandError } from './command-error.js';
import { COMMAND_TEXTS, usageOf } from './command-texts.js';
import { CrashtestExit as Exit } from './exit-codes.js';
import { count, print } from './image-command.js';
import { checkFuse, checkNative, onPath } from './mount-checks.js';
import { Progress } from './progress.js';
import { report } from './report.js';

const NAME = 'ext4d crashtest';
const OPTIONS = COMMAND_TEXTS.crashtest.options;

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const THOROUGHNESS: Thoroughness = { exhaustiveWrites: 3, randomSubsets: 6, tornStates: 4 };
const UNIT_BYTES = 4096;
const COMMAND_TIMEOUT_MS = 600_000;

/** Images are held in memory, one for each way of looking at them. */
const MAX_MIB = 1536;
const MAX_TIMEOUTS = 5;
/** What a shell answers for a command that cannot be run, or is not there. */
const NOT_RUN: ReadonlySet<number> = new Set([126, 127]);

interface Settings {
  readonly command: readonly string[];
  readonly setup: string | null;
  readonly verify: string | null;
  readonly sizeMiB: number;
  readonly mkfs: readonly string[];
  readonly most: number;
  readonly seed: number;
  readonly verifyTimeoutMs: number;
  readonly reportFile: string | null;
  readonly keep: string | null;
}

/** Where filesystems are mounted. */
type Place = Pick<MountedOptions, 'mountpoint' | 'standIn'>;

interface Recording {
  /** The filesystem as it was when recording began. */
  readonly base: Uint8Array;
  readonly log: readonly LogEntry[];
  readonly exitCode: number;
  /** What the program had printed once the log had so many entries. */
  readonly printed: readonly { readonly position: number; readonly text: string }[];
}

export async function runCrashtest(args: readonly string[]): Promise<number> {
  let scratch: string | null = null;
  let place: Place | null = null;
  const interruption = new AbortController();
  const interrupt = (signal: NodeJS.Signals) =>
    interruption.abort(
      new CommandError(`${signal}: nothing was concluded`, Exit.INTERRUPTED + constants.signals[signal]),
    );
  for (const signal of SIGNALS) process.on(signal, interrupt);
  try {
    const settings = parseSettings(args);
    checkNative();
    checkFuse();
    if (!onPath('mke2fs')) throw new CommandError('mke2fs is missing: install e2fsprogs', Exit.OPERATIONAL);
    scratch = mkdtempSync(join(tmpdir(), 'ext4d-crashtest-'));
    place = makePlace(scratch, settings);
    return await crashtest(settings, scratch, place, interruption.signal);
  } catch (error) {
    if (error instanceof UsageError) {
      process.stderr.write(`${NAME}: ${error.message}\nusage: ${usageOf('crashtest')}; see: ext4d help crashtest\n`);
      return Exit.USAGE;
    }
    report(NAME, error instanceof MountBusyError ? new CommandError(error.message) : error);
    return interruption.signal.reason === error ? (error as CommandError).exitCode : Exit.OPERATIONAL;
  } finally {
    for (const signal of SIGNALS) process.off(signal, interrupt);
    if (place?.standIn) spawnSync('losetup', ['-d', place.standIn]);
    if (scratch !== null) rmSync(scratch, { recursive: true, force: true });
  }
}

/** Root's sync(2) and syncfs(2) reach a server only through a block device: a loop device over nothing lends its name. */
function makePlace(scratch: string, { sizeMiB }: Settings): Place {
  const mountpoint = join(scratch, 'mnt');
  mkdirSync(mountpoint);
  if (process.geteuid?.() !== 0) return { mountpoint, standIn: null };
  const nothing = join(scratch, 'nothing');
  writeFileSync(nothing, '');
  truncateSync(nothing, sizeMiB * 1024 * 1024);
  const made = spawnSync('losetup', ['--find', '--show', nothing], { encoding: 'utf8' });
  const standIn = made.status === 0 ? made.stdout.trim() : null;
  if (standIn === null)
    print('no loop device can be had: sync and syncfs of the program do not reach the filesystem, fsync does');
  return { mountpoint, standIn };
}

function parseSettings(args: readonly string[]): Settings {
  const dashes = args.indexOf('--');
  if (dashes < 0 || dashes === args.length - 1) throw new UsageError('the command to test is missing: put it after --');
  const { values } = parseArguments(joined(args.slice(0, dashes)), OPTIONS, []);
  const last = (name: keyof typeof OPTIONS): string | null => values[name].at(-1) ?? null;
  const number = (name: keyof typeof OPTIONS, byDefault: number, least: number, most = 2 ** 31): number => {
    const text = last(name);
    const value = text === null ? byDefault : Number(text);
    if (!Number.isInteger(value) || value < least || value > most)
      throw new UsageError(`--${name} ${text}: not a number from ${least} to ${most}`);
    return value;
  };
  const reportFile = last('report') ?? 'ext4d-crashtest.html';
  return {
    command: args.slice(dashes + 1),
    setup: last('setup'),
    verify: last('verify'),
    sizeMiB: number('size', 64, 8, MAX_MIB),
    mkfs: last('mkfs')?.split(/\s+/).filter(Boolean) ?? [],
    most: number('most', 300, 1),
    seed: number('seed', 1, 1),
    verifyTimeoutMs: 1000 * number('timeout', 60, 1, 86_400),
    reportFile: reportFile === '-' ? null : reportFile,
    keep: last('keep'),
  };
}

/** `--mkfs "-b 1024"`: the value of an option may begin with a dash. */
function joined(args: readonly string[]): string[] {
  const list: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const takesValue = args[i].startsWith('--') && Object.hasOwn(OPTIONS, args[i].slice(2)) && i + 1 < args.length;
    list.push(takesValue ? `${args[i]}=${args[++i]}` : args[i]);
  }
  return list;
}

/** Better now than after all the work. Throws CommandError. */
function checkOutputs({ reportFile, keep }: Settings): void {
  for (const [option, make] of [
    ['--report', () => reportFile !== null && closeSync(openSync(reportFile, 'a'))],
    ['--keep', () => keep !== null && mkdirSync(keep, { recursive: true })],
  ] as const) {
    try {
      make();
    } catch (error) {
      throw new CommandError(`${option}: ${error instanceof Error ? error.message : error}`, Exit.OPERATIONAL);
    }
  }
}

async function crashtest(settings: Settings, scratch: string, place: Place, signal: AbortSignal): Promise<number> {
  const started = performance.now();
  checkOutputs(settings);
  const recording = await record(settings, scratch, place, signal);
  const { log, base } = recording;
  const writes = log.filter(({ kind }) => kind === 'write').length;
  const flushes = log.filter(({ kind }) => kind === 'flush').length;
  print(
    `recorded: ${count(writes, 'write')}, ${flushes} flushes; the program ended with exit code ${recording.exitCode}`,
  );

  const image = new StateImage(base.slice());
  const progress = new Progress();
  const explored = await exploreStates(image, log, {
    thoroughness: THOROUGHNESS,
    seed: settings.seed,
    sayings: (position) => printedBy(recording, position),
    async pause(done, total) {
      progress.show('exploring', done, total);
      await nextTurn();
      signal.throwIfAborted();
    },
  });
  progress.end();
  print(`${count(explored.states.length, 'crash state')}, ${explored.kinds.length} of them different to a program`);
  if (settings.verify !== null) await verifyKinds(settings, settings.verify, recording, image, explored, place, signal);
  const seconds = (performance.now() - started) / 1000;
  if (settings.reportFile !== null) {
    const facts = {
      command: settings.command.join(' '),
      verify: settings.verify,
      exitCode: recording.exitCode,
      seconds,
    };
    writeFileSync(settings.reportFile, htmlReport(facts, log, explored, logRange(base)));
  }
  if (settings.keep !== null) keepImages(settings.keep, recording, image, explored);
  return conclude(settings, log, explored, seconds);
}

async function record(settings: Settings, scratch: string, place: Place, signal: AbortSignal): Promise<Recording> {
  const fresh = makeImage(settings, join(scratch, 'image'));
  if (settings.setup !== null) {
    const setup = settings.setup;
    const { code, output } = await whileMounted(new MemoryDevice(fresh), place, () =>
      runIn(place.mountpoint, ['/bin/sh', '-c', setup], { timeoutMs: COMMAND_TIMEOUT_MS, signal }),
    );
    signal.throwIfAborted();
    if (code !== 0) throw new CommandError(`--setup ended with exit code ${code}: ${output.trim()}`, Exit.OPERATIONAL);
  }
  const base = fresh.slice();
  const device = new RecordingDevice(new MemoryDevice(fresh), UNIT_BYTES);
  device.onSubmit = () => setImmediate(() => runJobs(device));
  const printed: { position: number; text: string }[] = [];
  const wrap = (fs: Filesystem) => {
    if (fs.readOnly)
      throw new CommandError(`nothing can be recorded: ${fs.report.readOnlyReasons.join('; ')}`, Exit.OPERATIONAL);
    return recordOperations(fs, device);
  };
  const { code, output } = await whileMounted(device, { ...place, wrap }, () =>
    runIn(place.mountpoint, settings.command, {
      timeoutMs: COMMAND_TIMEOUT_MS,
      signal,
      onOutput(text) {
        process.stdout.write(text);
        // Later than it was printed, never earlier: a promise may be noticed late.
        device.mark(`printed ${JSON.stringify(text.trim().slice(-60))}`, { promise: true });
        printed.push({ position: device.log.length, text });
      },
    }),
  );
  signal.throwIfAborted();
  if (NOT_RUN.has(code)) throw new CommandError(`the command could not be run: ${output.trim()}`, Exit.OPERATIONAL);
  if (code !== 0) print(`the command ended with exit code ${code}: its promises up to then are tested`);
  return { base, log: device.log, exitCode: code, printed };
}

function runJobs(device: RecordingDevice): void {
  while (device.busy) device.step();
}

function makeImage({ sizeMiB, mkfs }: Settings, path: string): Uint8Array {
  writeFileSync(path, '');
  truncateSync(path, sizeMiB * 1024 * 1024);
  const env = { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` };
  // One -E replaces another: what the user says is added to ours.
  const extended = mkfs.flatMap((word, i) => (mkfs[i - 1] === '-E' ? [word] : []));
  const others = mkfs.filter((word, i) => word !== '-E' && mkfs[i - 1] !== '-E');
  const owner = [`root_owner=${process.getuid?.() ?? 0}:${process.getgid?.() ?? 0}`, ...extended].join(',');
  const type = others.includes('-t') ? [] : ['-t', 'ext4'];
  const made = spawnSync('mke2fs', ['-q', '-F', ...type, '-E', owner, ...others, path], { env, encoding: 'utf8' });
  if (made.status !== 0)
    throw new CommandError(`mke2fs: ${made.stderr.trim()}: change --mkfs or --size`, Exit.OPERATIONAL);
  const bytes = new Uint8Array(readFileSync(path));
  rmSync(path);
  return bytes;
}

function printedBy({ printed }: Recording, position: number): string {
  return printed
    .filter((piece) => piece.position <= position)
    .map(({ text }) => text)
    .join('');
}

/** Shows each kind of state to the verifier; with more than `--most` of them a choice that the seed makes. */
async function verifyKinds(
  settings: Settings,
  verify: string,
  recording: Recording,
  image: StateImage,
  { kinds }: Explored,
  place: Place,
  signal: AbortSignal,
): Promise<void> {
  const random = new Random(settings.seed);
  const chosen = kinds.filter(({ outcome }) => outcome === 'unverified');
  while (chosen.length > settings.most) chosen.splice(random.below(chosen.length), 1);
  const progress = new Progress();
  let timeouts = 0;
  for (const [done, kind] of chosen.entries()) {
    if (timeouts >= MAX_TIMEOUTS) break;
    progress.show('verifying', done, chosen.length);
    await verifyKind(verify, settings.verifyTimeoutMs, recording, image, kind, place, signal);
    if (/killed after/.test(kind.said)) timeouts++;
    signal.throwIfAborted();
  }
  progress.end();
}

async function verifyKind(
  verify: string,
  timeoutMs: number,
  recording: Recording,
  image: StateImage,
  kind: StateKind,
  place: Place,
  signal: AbortSignal,
): Promise<void> {
  const { point } = kind.states[0];
  const bytes = imageAt(image, recording.log, point);
  try {
    const { code, output } = await whileMounted(new MemoryDevice(bytes), place, () =>
      runIn(place.mountpoint, ['/bin/sh', '-c', verify], {
        stdin: printedBy(recording, point.position),
        timeoutMs,
        signal,
      }),
    );
    kind.outcome = code === 0 ? 'kept' : 'broken';
    kind.said = code === 0 ? '' : `exit code ${code}\n${output}`;
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
    kind.outcome = 'not recovered';
    kind.said = error.message;
  }
}

/** Which writes go to the log. */
function logRange(base: Uint8Array): (write: LoggedWrite) => boolean {
  const device = new MemoryDevice(base);
  const geometry = readGeometry(device);
  const blocks = new Set(readJournalMap(device, geometry));
  return ({ offsetBytes }) => blocks.has(Math.floor(offsetBytes / geometry.blockSize));
}

function keepImages(directory: string, { base, log }: Recording, image: StateImage, { kinds }: Explored): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'base.img'), base);
  writeFileSync(join(directory, 'history.log-writes'), writeLogWrites(log, base));
  for (const { outcome, states } of kinds) {
    if (outcome !== 'broken' && outcome !== 'not recovered') continue;
    const name = states[0].name.replaceAll(/[^\w.-]/g, '_').slice(0, 80);
    writeFileSync(join(directory, `state-${name}.img`), imageAt(image, log, states[0].point));
  }
}

/** Prints the result; the exit code follows from it. */
function conclude(settings: Settings, log: readonly LogEntry[], { kinds }: Explored, seconds: number): number {
  const of = (outcome: Outcome) => kinds.filter((kind) => kind.outcome === outcome);
  const states = (some: readonly StateKind[]) => some.reduce((sum, kind) => sum + kind.states.length, 0);
  const broken = [...of('not recovered'), ...of('broken')];
  for (const kind of broken.slice(0, 5)) {
    const [state] = kind.states;
    print(
      `\n${kind.outcome} at crash point ${state.name}, after: ${lastOperations(log, state.point.position).join(', ')}`,
    );
    print(kind.said.trimEnd().slice(0, 1000));
  }
  if (broken.length > 5) print(`\nand ${broken.length - 5} other kinds of broken states`);
  print(
    `\n${states(of('kept'))} crash states kept the promises, ${states(of('broken'))} broke them, ` +
      `${states(of('not recovered'))} were not recovered, ${states(of('unverified'))} were not verified; ${seconds.toFixed(1)} s`,
  );
  if (settings.verify === null) print('give --verify to have your own promises tested');
  if (settings.reportFile !== null) print(`report: ${settings.reportFile}`);
  return broken.length === 0 ? Exit.KEPT : Exit.BROKEN;
}
