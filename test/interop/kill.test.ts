/** The server is killed under load, again and again: nothing fsynced may be lost, and e2fsck must have nothing to say. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fsckFile, makeImageFile, run } from '../support/mke2fs.js';
import { EXT4D, Mount, requireOrSkip, whyNoFuse, withMount, withMountpoint } from '../support/server.js';

const CHURN = join(dirname(fileURLToPath(import.meta.url)), '../support/churn.js');
const ROUNDS = Number(process.env.EXT4D_KILL_ROUNDS ?? 4);

interface Ledger {
  /** What each name must hold. */
  readonly durable: Map<string, string>;
  /** What it may hold instead: a rename was under way. */
  readonly maybe: Map<string, Set<string>>;
}

function readLedger(lines: string): Ledger {
  const ledger: Ledger = { durable: new Map(), maybe: new Map() };
  // The last line may be torn by the kill: it has no newline and counts for nothing.
  for (const line of lines.slice(0, lines.lastIndexOf('\n') + 1).split('\n')) {
    const [kind, name, hash] = line.split(' ');
    if (kind === 'maybe') ledger.maybe.set(name, (ledger.maybe.get(name) ?? new Set()).add(hash));
    if (kind === 'durable') {
      ledger.durable.set(name, hash);
      ledger.maybe.delete(name);
    }
  }
  return ledger;
}

const sleep = (ms: number) => new Promise((done) => setTimeout(done, ms));

/** One round: returns how many promises were checked. */
async function killOnce(scratch: string, mountpoint: string, mkfs: readonly string[], seed: number): Promise<number> {
  const image = join(scratch, 'image');
  rmSync(image, { force: true });
  makeImageFile(image, 256, mkfs);
  const mount = await Mount.start(image, mountpoint);
  const writers: { child: ChildProcess; output: string }[] = [];
  try {
    for (let k = 0; k < 3; k++) {
      const child = spawn(process.execPath, [CHURN, join(mountpoint, `w${k}`), String(seed * 10 + k)], {
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      const writer = { child, output: '' };
      child.stdout?.on('data', (chunk) => {
        writer.output += chunk;
      });
      writers.push(writer);
    }
    await sleep(600 + ((seed * 7919) % 1500));
    await mount.kill();
  } finally {
    mount.cleanUp();
    for (const { child } of writers) child.kill('SIGKILL');
  }
  await sleep(50);

  const replay = run(EXT4D, ['replay', image]);
  assert.ok(replay.code <= 1, `ext4d replay: exit ${replay.code}: ${replay.output}`);
  const check = fsckFile(image);
  assert.equal(check.code, 0, `seed ${seed}: ${check.output}`);

  let checked = 0;
  await withMount(image, mountpoint, 'ro', () => {
    writers.forEach(({ output }, k) => {
      const { durable, maybe } = readLedger(output);
      for (const [name, hash] of durable) {
        const found = createHash('sha256')
          .update(readFileSync(join(mountpoint, `w${k}`, name)))
          .digest('hex');
        assert.ok(found === hash || maybe.get(name)?.has(found), `seed ${seed}: w${k}/${name} is not what was fsynced`);
        checked++;
      }
    });
  });
  return checked;
}

describe('a server killed in the middle of its work', function () {
  this.timeout(600_000);

  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
  });

  for (const { title, mkfs } of [
    { title: '4k blocks', mkfs: [] },
    { title: '1k blocks and a 4 MB log', mkfs: ['-b', '1024', '-J', 'size=4'] },
    { title: 'clusters of 16k', mkfs: ['-O', 'bigalloc', '-C', '16384'] },
  ]) {
    it(`loses nothing that was fsynced (${title})`, () =>
      withMountpoint(async (scratch, mountpoint) => {
        let checked = 0;
        for (let round = 1; round <= ROUNDS; round++) checked += await killOnce(scratch, mountpoint, mkfs, round);
        assert.ok(checked > ROUNDS * 10, `only ${checked} promises were made`);
      }));
  }
});
