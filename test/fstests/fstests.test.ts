/** The cases of test/fstests, each in a few rounds; `node test/fstests/run.mjs CASE` with ROUNDS runs more. */
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { requireOrSkip } from '../support/server.js';

interface Verdict {
  readonly passed?: boolean;
  readonly skipped?: string;
  readonly output: string;
}

interface Runner {
  caseNames(): string[];
  runCase(name: string, options: { timeoutMs: number; env: Record<string, string> }): Promise<Verdict>;
}

/** Scripts are run where they are, not from the build. */
const runnerPath = fileURLToPath(new URL('../../../test/fstests/run.mjs', import.meta.url));
const { caseNames, runCase } = (await import(runnerPath)) as Runner;

describe('fstests case', function () {
  this.timeout(630_000);

  for (const name of caseNames()) {
    it(name, async function () {
      const { passed, skipped, output } = await runCase(name, { timeoutMs: 600_000, env: { ROUNDS: '2' } });
      if (skipped !== undefined) requireOrSkip(this, skipped);
      assert.ok(passed, output.slice(-4000));
    });
  }
});
