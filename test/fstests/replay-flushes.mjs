/**
 * replay-flushes.mjs BASE LOG STATE LIST KIB: puts BASE into STATE as the dm-log-writes LOG left it at every flush in turn,
 * recovers each with `ext4d replay`, judges it with e2fsck, and looks for the files of LIST that were synced by then
 * (marks "synced-N"). Exit code 1 if one is not right.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, openSync, readFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readLogWrites } from '../../build/src/crash/log-writes.js';

const [base, logPath, state, listPath, kib] = process.argv.slice(2);
const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const ext4d = (...args) => spawnSync(process.execPath, [join(root, 'bin/ext4d'), ...args], { encoding: 'utf8' });
const names = readFileSync(listPath, 'utf8').split('\n').filter(Boolean);
const log = readLogWrites(readFileSync(logPath));
const replayed = `${state}-replayed`;

copyFileSync(base, state);
const fd = openSync(state, 'r+');
let synced = 0;
let flushes = 0;
let bad = 0;
for (const entry of log) {
  if (entry.kind === 'mark') synced = Number(/^synced-(\d+)$/.exec(entry.text)?.[1] ?? synced);
  else if (entry.kind === 'write') writeSync(fd, entry.bytes, 0, entry.bytes.length, entry.offsetBytes);
  else {
    flushes++;
    copyFileSync(state, replayed);
    const complaint = judge();
    if (complaint !== null) {
      console.log(`flush ${flushes}: ${complaint}`);
      bad++;
    }
  }
}
console.log(`${log.length} entries, ${flushes} flushes looked at, ${bad} bad`);
process.exit(bad > 0 || flushes < 10 ? 1 : 0);

function judge() {
  const replay = ext4d('replay', replayed);
  if (replay.status > 1) return `replay: ${replay.stderr}`;
  const fsck = spawnSync('/sbin/e2fsck', ['-fn', replayed], { encoding: 'utf8' });
  if (fsck.status !== 0) return fsck.stdout;
  const listing = spawnSync('/sbin/debugfs', ['-R', 'ls -p /', replayed], { encoding: 'utf8' }).stdout;
  for (const name of names.slice(0, synced)) {
    const line = listing.split('\n').find((each) => each.split('/')[5] === name);
    if (line === undefined) return `${name} was synced and is gone`;
    if (Number(line.split('/')[6]) !== Number(kib) * 1024) return `${name} was synced and has another size`;
  }
  return null;
}
