/** Many workloads on one format: random ones, shrunk when they fail, and all short ones. */
import fc from 'fast-check';
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { checkOrder } from '../../../src/crash/ordering-rules.js';
import { StateImage } from '../../../src/crash/state-image.js';
import { COMMITTED_PRELUDE, type Command, commandArbitrary, coreCommands, PERSISTENCE, PRELUDE } from './commands.js';
import { CrashFailure, type ExploreOptions, explore, type Tally } from './explorer.js';
import { type Format, poisonedImage } from './formats.js';
import { describe, type Recorded, Workload, type WorkloadOptions } from './workload.js';

export interface CampaignOptions extends ExploreOptions {
  /** After each workload. */
  readonly onWorkload?: () => void;
  /** Random workloads use only these. */
  readonly ops?: readonly Command['op'][];
  /** What goes wrong does so before any crash: the history alone is looked at. */
  readonly recordOnly?: boolean;
  /** All workloads begin near the end of the log. */
  readonly aged?: boolean;
}

/** A few transactions are enough for a checkpoint, so that most workloads see several. */
const CHECKPOINT_BYTES = 32 << 10;
/** One workload in so many begins near the end of the log, and wraps around it. */
const AGED_EACH = 8;
/** Every third command or so, in place of every fifteenth. */
const FSYNC_WEIGHT = 40;

export class Campaign {
  readonly format: Format;
  private readonly pristine: Uint8Array;
  private readonly image: StateImage;
  private readonly options: CampaignOptions;
  private readonly tally: Tally;

  constructor(format: Format, tally: Tally, options: CampaignOptions = {}) {
    this.format = format;
    this.tally = tally;
    this.options = options;
    this.pristine = poisonedImage(format);
    this.image = new StateImage(this.pristine.slice());
  }

  /** Records the commands and explores. Throws CrashFailure. */
  async try(commands: readonly Command[], options: ExploreOptions = this.options, from = 0): Promise<Recorded> {
    const { blockSize } = this.format;
    const settings: WorkloadOptions = {
      unitBytes: blockSize,
      checkpointBytes: CHECKPOINT_BYTES,
      policy: this.format.policy,
      equalAttributes: this.format.attributes?.equal,
      agedCommits: this.options.aged === true || isAged(commands) ? commitsToWrap(this.format, commands.length) : 0,
    };
    const recorded = await Workload.record(new MemoryDevice(this.pristine.slice()), commands, settings);
    const [violation] = checkOrder(this.pristine, recorded.log);
    if (violation !== undefined) {
      throw new CrashFailure(
        `${violation.entry}:all`,
        `rule ${violation.rule} of the log's order: ${violation.finding}`,
      );
    }
    if (this.options.recordOnly === true) return recorded;
    const start = from === 0 ? recorded.started : Math.max(recorded.started, recorded.commands[from - 1].end);
    explore(this.image, recorded, { ...options, from: start }, this.tally);
    this.options.onWorkload?.();
    return recorded;
  }

  /** Random workloads; the first that fails is shrunk and thrown with everything needed to run it again. */
  async random(
    seed: number,
    numRuns: number,
    path?: string,
    { shrink = true, late = () => false }: { shrink?: boolean; late?: () => boolean } = {},
  ): Promise<void> {
    const { attributes, fastCommits } = this.format;
    const prelude = fastCommits ? COMMITTED_PRELUDE : PRELUDE;
    const commands = fc.array(
      commandArbitrary(
        this.format.blockSize,
        this.options.ops,
        attributes?.lengths,
        fastCommits ? FSYNC_WEIGHT : undefined,
      ),
      {
        minLength: 1,
        maxLength: 60,
        size: 'max',
      },
    );
    const property = fc.asyncProperty(commands, async (script) => {
      if (late()) return;
      await this.try([...prelude, ...script], { ...this.options, seed: seed + script.length }, prelude.length);
    });
    const result = await fc.check(property, { seed, numRuns, path, endOnFailure: !shrink });
    if (!result.failed) return;
    const script = [...prelude, ...(result.counterexample?.[0] ?? [])];
    throw this.failure(
      script,
      result.errorInstance,
      `seed ${result.seed}, path ${result.counterexamplePath}, ${result.numShrinks} times shrunk`,
    );
  }

  /**
   * All sequences of `length` core operations, each followed by each way to make it last; `mine` picks a share of them.
   * The prelude is not explored again.
   */
  async exhaustive(length: number, mine: (index: number) => boolean): Promise<void> {
    const core = coreCommands(this.format.blockSize);
    const total = core.length ** length * PERSISTENCE.length;
    const prelude: Command[] = [
      { op: 'mkdir', path: 'd' },
      { op: 'write', path: 'a', pos: 0, length: this.format.blockSize + 50 },
      { op: 'write', path: 'd/a', pos: 0, length: 3 * this.format.blockSize },
      { op: 'setxattr', path: 'a', name: 'user.a', length: 10 },
      { op: 'syncfs' },
    ];
    for (let index = 0; index < total; index++) {
      if (!mine(index)) continue;
      const script = [...prelude];
      for (let k = 0, rest = Math.floor(index / PERSISTENCE.length); k < length; k++) {
        script.push(core[rest % core.length]);
        rest = Math.floor(rest / core.length);
      }
      script.push(PERSISTENCE[index % PERSISTENCE.length], { op: 'create', path: 'z' });
      try {
        await this.try(script, { ...this.options, seed: index + 1 }, prelude.length);
      } catch (error) {
        throw this.failure(script, error, `sequence ${index} of length ${length}`);
      }
    }
  }

  /** How many sequences of this length there are. */
  static sequences(format: Format, length: number): number {
    return coreCommands(format.blockSize).length ** length * PERSISTENCE.length;
  }

  private failure(script: readonly Command[], error: unknown, origin: string): Error {
    const complaint =
      error instanceof Error ? (error instanceof CrashFailure ? error.message : error.stack) : String(error);
    const point = error instanceof CrashFailure ? error.point : null;
    const lines = script.map((command, i) => `  ${String(i).padStart(3)} ${describe(command)}`);
    const again = `npm run test:crash -- --format ${this.format.name} --script '${JSON.stringify(script)}'`;
    return new Error(
      `${complaint}\n\n${origin}, format ${this.format.name}; the script:\n${lines.join('\n')}\n` +
        `crash point: ${point ?? 'while the workload ran'}\n` +
        `To run it again: ${again}${point === null ? '' : ` --crash ${point}`}`,
    );
  }
}

/** Follows from the script alone, so that a script is all that a replay needs. */
function isAged(commands: readonly Command[]): boolean {
  return commands.length % AGED_EACH === AGED_EACH - 1;
}

/** Commits of one inode, three log blocks each, that bring the head to some place near the end of the log. */
function commitsToWrap({ blockSize }: Format, vary: number): number {
  const smallestLogBlocks = 1024;
  return blockSize === 1024 ? Math.floor((smallestLogBlocks - 4 - (vary % 40)) / 3) * 2 : 0;
}
