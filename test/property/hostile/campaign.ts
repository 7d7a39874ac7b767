/** Thousands of hostile images from one sound one: generated, tried, counted, and shrunk when one is too much. */
import fc from 'fast-check';
import { kindsOf, type Plan, planArbitrary } from './damage.js';
import { soundImage } from './images.js';
import type { Outcome } from './life.js';
import type { Kind } from './structures.js';
import { Trial } from './trial.js';

/** What was tried; adds up over processes. */
export class Tally {
  readonly kinds: Partial<Record<Kind, number>> = {};
  readonly outcomes: Record<Outcome, number> = { refused: 0, read: 0, written: 0 };
  images = 0;
  structures = 0;

  count(plan: Plan, outcome: Outcome): void {
    this.images++;
    this.outcomes[outcome]++;
    for (const { kind } of plan.damages) {
      this.structures++;
      this.kinds[kind] = (this.kinds[kind] ?? 0) + 1;
    }
  }

  /** `other` may have come from another process. */
  add(other: Pick<Tally, 'kinds' | 'outcomes' | 'images' | 'structures'>): void {
    this.images += other.images;
    this.structures += other.structures;
    for (const outcome of ['refused', 'read', 'written'] as const) this.outcomes[outcome] += other.outcomes[outcome];
    for (const [kind, count] of Object.entries(other.kinds) as [Kind, number][])
      this.kinds[kind] = (this.kinds[kind] ?? 0) + count;
  }

  summary(seconds: number): string {
    const { refused, read, written } = this.outcomes;
    const rate = Math.round(this.structures / seconds);
    return (
      `${this.structures} corrupted structures in ${this.images} images, ${rate} a second; ` +
      `images refused ${refused}, only read ${read}, written to ${written}`
    );
  }
}

type Announce = (image: string, plan: Plan) => void;

export class Campaign {
  readonly name: string;
  readonly trial: Trial;
  private readonly kinds: readonly Kind[];
  private readonly announce: Announce;

  private constructor(name: string, trial: Trial, announce: Announce) {
    this.name = name;
    this.trial = trial;
    this.kinds = kindsOf(trial.located);
    this.announce = announce;
  }

  /** `announce` is called before each trial: what is being tried, should this process not come back from it. */
  static async on(name: string, announce: Announce = () => {}): Promise<Campaign> {
    return new Campaign(name, new Trial(await soundImage(name)), announce);
  }

  /** Takes several times as long as others. */
  get slow(): boolean {
    return /deep|large-dir/.test(this.name);
  }

  /** One plan. Throws what it led to. */
  async try(plan: Plan): Promise<Outcome> {
    this.announce(this.name, plan);
    return this.trial.run(plan);
  }

  /** Random plans; the first that fails is shrunk and thrown with what is needed to run it again. */
  async random(seed: number, numRuns: number, tally: Tally, path?: string): Promise<void> {
    const property = fc.asyncProperty(planArbitrary(this.kinds), async (plan) => {
      tally.count(plan, await this.try(plan));
    });
    const result = await fc.check(property, { seed, numRuns, path });
    if (!result.failed) return;
    const plan = result.counterexample?.[0];
    if (plan === undefined) throw new Error(String(result.errorInstance));
    const { errorInstance: error } = result;
    const complaint = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const origin = `seed ${result.seed}, path ${result.counterexamplePath}, ${result.numShrinks} times shrunk`;
    throw new Error(`${complaint}\n\n${origin}\n${this.story(plan)}`);
  }

  /** Some plans, not tried. */
  sample(seed: number, count: number): Plan[] {
    return fc.sample(planArbitrary(this.kinds), { seed, numRuns: count });
  }

  /** A plan in words, and the command that repeats it. */
  story(plan: Plan): string {
    const words = this.trial.describe(plan).map((line) => `  ${line}`);
    return (
      `image ${this.name}, ${plan.live ? 'while it is mounted, ' : ''}checksums ${plan.sealed ? 'put right' : 'left as they were'}:\n${words.join('\n')}\n` +
      `To run it again: npm run test:hostile -- --image ${this.name} --plan '${JSON.stringify(plan)}'`
    );
  }
}
