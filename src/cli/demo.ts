/**
 * What `npm start` shows: an image of its own is written to, its server killed in mid-write, the log looked at, the image
 * mounted again, and every file that had been fsynced is found as it was. Leaves nothing behind.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CommandError } from './command-error.js';
import { usageOf } from './command-texts.js';
import { summariseLog } from './demo-log.js';
import { DemoServer, PROGRAM, runTool } from './demo-server.js';
import { Ledger, startWriters, writeLetters } from './demo-writer.js';
import { DemoExit, MountExit } from './exit-codes.js';
import { checkFuse, checkNative, onPath } from './mount-checks.js';
import { report } from './report.js';

const IMAGE_SIZE = '512M';
/** How long the last writers work before the server is killed. */
const WRITE_MS = 700;
const MOST_WRITE_MS = 5000;

const say = (line = '') => process.stdout.write(`${line}\n`);
let step = 0;
const heading = (line: string) => say(`\n${++step}. ${line}`);
const detail = (line: string) => say(`   ${line}`);

/** Exit code: 0 nothing was lost; 1 something was; 2 something is missing on this machine. */
export async function runDemo(args: readonly string[]): Promise<number> {
  if (args.length > 0) {
    process.stderr.write(`ext4d demo: "${args[0]}" is one argument too many\nusage: ${usageOf('demo')}\n`);
    return DemoExit.LOST;
  }
  let scratch: string | null = null;
  let server: DemoServer | null = null;
  const cleanUp = () => {
    server?.cleanUp();
    if (scratch !== null) rmSync(scratch, { recursive: true, force: true });
    server = null;
    scratch = null;
  };
  const interrupted = (signal: NodeJS.Signals) => {
    cleanUp();
    process.exit(signal === 'SIGINT' ? 130 : 143);
  };
  process.on('SIGINT', interrupted);
  process.on('SIGTERM', interrupted);
  try {
    checkTools();
    scratch = mkdtempSync(join(tmpdir(), 'ext4d-demo-'));
    const image = join(scratch, 'demo.img');
    const mountpoint = join(scratch, 'mnt');
    mkdirSync(mountpoint);
    server = new DemoServer(image, mountpoint);
    return await story(server);
  } catch (error) {
    return report('ext4d demo', error) === MountExit.SYSTEM ? DemoExit.SYSTEM : DemoExit.LOST;
  } finally {
    cleanUp();
    process.off('SIGINT', interrupted);
    process.off('SIGTERM', interrupted);
  }
}

function checkTools(): void {
  for (const tool of ['mke2fs', 'e2fsck']) {
    if (!onPath(tool)) throw new CommandError(`${tool} is missing: apt install e2fsprogs`, DemoExit.SYSTEM);
  }
  checkFuse();
  checkNative();
}

async function story(server: DemoServer): Promise<number> {
  const started = performance.now();
  const { image, mountpoint } = server;

  heading('An ext4 image, made by mke2fs as it makes them by default');
  // Without it the root directory of the new filesystem would be root's, and closed to anyone else.
  const owner = process.geteuid?.() === 0 ? [] : ['-E', `root_owner=${process.geteuid?.()}:${process.getegid?.()}`];
  runTool('mke2fs', ['-q', '-F', '-t', 'ext4', '-b', '4096', ...owner, image, IMAGE_SIZE]);
  detail(['mke2fs -t ext4', ...owner, image, IMAGE_SIZE].join(' '));

  heading('Mounted by ext4d, and written to');
  await server.start();
  detail(`ext4d mount ${image} ${mountpoint}   (server: process ${server.pid})`);
  const ledger = new Ledger();
  await writeLetters(mountpoint, ledger);
  detail(`${ledger.size} files written, each fsynced together with its directory`);

  heading('The server is killed with SIGKILL, in the middle of more writing');
  const writers = startWriters(mountpoint, ledger);
  await new Promise((done) => setTimeout(done, WRITE_MS));
  await Promise.race([writers.cameAndWent(), new Promise((done) => setTimeout(done, MOST_WRITE_MS))]);
  await server.kill();
  const unfinished = await writers.done;
  detail(
    'meanwhile a directory of long names came and went: the log revokes its blocks, so that replay leaves them alone',
  );
  detail(`${ledger.size} files had been fsynced by then; ${unfinished} files were still being written`);

  heading('What is in the log of the image (ext4d journal shows it block by block)');
  for (const line of summariseLog(image)) detail(line);

  heading('Mounted again: replay first, then the orphans');
  const said = await server.start();
  for (const line of said) detail(line);

  heading('Every fsynced file is compared with what was written');
  const { good, bad } = await ledger.verify(mountpoint);
  detail(`${good} of ${good + bad.length} files are exactly as they were fsynced`);
  for (const name of bad.slice(0, 10)) detail(`LOST OR DAMAGED: ${name}`);

  heading('Unmounted, and judged by e2fsck');
  await server.unmount();
  const check = runTool('e2fsck', ['-fn', image], { mayFail: true });
  detail(`e2fsck -fn: ${check.code === 0 ? 'clean, nothing to repair' : `exit code ${check.code}`}`);
  if (check.code !== 0) for (const line of check.output.trim().split('\n')) detail(line);

  const well = bad.length === 0 && check.code === 0;
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  say();
  if (well) say(`The plug was pulled in mid-write, and nothing that was fsynced is lost. (${seconds} s)`);
  else say(`SOMETHING WENT WRONG: ${bad.length} files lost, e2fsck exit code ${check.code}. Please report this.`);
  say();
  say('Your own image:');
  say('   npm start -- IMAGE MOUNTPOINT [-o OPTIONS]      sets up, and mounts it');
  say(`   ${PROGRAM} mount IMAGE MOUNTPOINT`);
  say(`   ${PROGRAM} umount MOUNTPOINT`);
  say(`   ${PROGRAM} --help`);
  return well ? DemoExit.OK : DemoExit.LOST;
}
