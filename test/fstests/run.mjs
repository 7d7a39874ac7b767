/**
 * Runs cases against a mounted ext4d.
 *   run.mjs [CASE...]                       the scripts of cases/, or these; those that need it inside User Mode Linux
 *   XFSTESTS_DIR=... run.mjs --as ext4|fuse [TEST...]   tests of an upstream checkout, built; see xfstests.mjs
 * A case says in its first line what it needs: "root", a command, or "uml MIB..." with the disks it wants. What a case in
 * User Mode Linux leaves in $KEEP is judged by CASE.judge.sh on the machine itself, if there is one: that is faster.
 * Exit code 0: all passed or, unless CI is set, were skipped.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runInUml, whyNoUml } from './uml/boot.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const SKIPPED = 77;
const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** Names of the cases in the tree. */
export function caseNames() {
  return readdirSync(join(here, 'cases'))
    .filter((name) => name.endsWith('.sh') && !name.endsWith('.judge.sh'))
    .map((name) => basename(name, '.sh'))
    .sort();
}

/** Runs one. `skipped` says why it was not run; `passed` is then undefined. */
export async function runCase(name, { timeoutMs = 300_000, env = {}, echo = false } = {}) {
  const script = join(here, 'cases', `${name}.sh`);
  const needs = /^# needs: (.*)$/m.exec(readFileSync(script, 'utf8'))?.[1].split(' ') ?? [];
  if (needs[0] === 'uml') {
    const skipped = whyNoUml();
    if (skipped !== null) return { skipped, output: '' };
    const keep = mkdtempSync(join(tmpdir(), 'ext4d-case-'));
    try {
      const kept = { ...env, KEEP: keep };
      const { code, output } = await runInUml(script, needs.slice(1).map(Number), { timeoutMs, env: kept, echo });
      const judge = join(here, 'cases', `${name}.judge.sh`);
      if (code !== 0 || !existsSync(judge)) return verdict(code, output);
      const judged = await runNatively(judge, { timeoutMs, env: kept, echo });
      return { ...judged, output: output + judged.output };
    } finally {
      rmSync(keep, { recursive: true, force: true });
    }
  }
  const missing = needs.map(whyMissing).find((why) => why !== null);
  if (missing !== undefined) return { skipped: missing, output: '' };
  return runNatively(script, { timeoutMs, env, echo });
}

function runNatively(script, { timeoutMs, env, echo }) {
  return new Promise((done) => {
    const child = spawn('bash', [script], {
      env: { ...process.env, ...env },
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        output += chunk;
        if (echo) process.stdout.write(chunk);
      });
    }
    // First politely: the case then unmounts what it has mounted. So, too, when this process is told to end.
    const end = () => process.kill(-child.pid, 'SIGTERM');
    for (const signal of ENDING) process.on(signal, end);
    const polite = setTimeout(end, timeoutMs);
    const hard = setTimeout(() => process.kill(-child.pid, 'SIGKILL'), timeoutMs + 10_000);
    child.on('close', (code) => {
      clearTimeout(polite);
      clearTimeout(hard);
      for (const signal of ENDING) process.off(signal, end);
      done(verdict(code ?? -1, output));
    });
  });
}

function verdict(code, output) {
  if (code === SKIPPED) return { skipped: /^SKIPPED: (.*)$/m.exec(output)?.[1] ?? 'no reason given', output };
  return { passed: code === 0, output };
}

function whyMissing(need) {
  if (need === 'root') return process.getuid() === 0 ? null : 'needs root';
  return spawnSync('sh', ['-c', `command -v ${need}`]).status === 0 ? null : `${need} is not installed`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv.includes('--as')) {
    const { runUpstream } = await import('./xfstests.mjs');
    process.exit(await runUpstream(process.argv.slice(2)));
  }
  const names = process.argv.length > 2 ? process.argv.slice(2) : caseNames();
  let bad = 0;
  for (const name of names) {
    const { passed, skipped } = await runCase(name, { echo: true, timeoutMs: 3_600_000, env: process.env });
    if (skipped !== undefined) bad += process.env.CI ? 1 : 0;
    else if (!passed) bad++;
    console.log(`${name}: ${skipped !== undefined ? `skipped: ${skipped}` : passed ? 'passed' : 'FAILED'}`);
  }
  process.exit(bad > 0 ? 1 : 0);
}
