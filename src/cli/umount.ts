/** `ext4d umount`: returns when the image is clean and its server gone; with -l at once, and both follow when the last file closes. */
import { spawn } from 'node:child_process';
import { FileDevice } from '../block/file-device.js';
import { INCOMPAT } from '../ext4/features.js';
import { readGeometry } from '../ext4/open.js';
import { requireNative, whenJobDone } from '../native.js';
import { parseArguments, UsageError } from './args.js';
import { CommandError } from './command-error.js';
import { COMMAND_TEXTS, usageOf } from './command-texts.js';
import { MountExit } from './exit-codes.js';
import { thawForUnmount } from './freeze.js';
import { checkNative } from './mount-checks.js';
import { type MountEntry, mountAt, readMountinfo } from './mountinfo.js';
import { Progress } from './progress.js';
import { report } from './report.js';
import { isAlive, lockHolders, type Process, processOf, serverOf, usersOf, wordsOfServer } from './server-process.js';

const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;
const POLL_MS = 10;
/** How long to wait for the ended server's parent to take notice. */
const REAP_POLLS = 20;

/** Exit code: 0 unmounted and clean, 1 usage or permission, 32 not unmounted, or not clean. */
export async function runUmount(args: readonly string[]): Promise<number> {
  try {
    const { flags, positionals } = parseArguments(args, COMMAND_TEXTS.umount.options, ['MOUNTPOINT']);
    await umount(positionals[0], flags.lazy);
    return MountExit.OK;
  } catch (error) {
    const code = report('ext4d umount', error, args.at(-1));
    if (error instanceof UsageError) process.stderr.write(`usage: ${usageOf('umount')}; see: ext4d help umount\n`);
    return code;
  }
}

async function umount(typed: string, lazy: boolean): Promise<void> {
  const entry = mountAt(typed);
  if (entry === null) throw new CommandError(`${typed}: not mounted; what is: findmnt -t fuse.ext4d,fuseblk.ext4d`);
  const { mountpoint, source } = entry;
  const server = serverOf(mountpoint, source);
  if (!/^fuse(blk)?\.ext4d$/.test(entry.type) && server === null) {
    throw new CommandError(`${typed}: mounted as ${entry.type}, not by ext4d; use umount`);
  }
  // With a side file the image is as dirty as it was before.
  const untouched =
    entry.readOnly || (server !== null && wordsOfServer(server).some((word) => word.startsWith('overlay=')));
  // Whoever calls this from inside must not be kept there by it.
  process.chdir('/');
  thawForUnmount(mountpoint);
  const progress = new Progress();
  const ticking = setInterval(() => progress.show(`unmounting ${typed}`), 100);
  try {
    await detach(typed, entry, lazy);
    if (lazy) return;
    // An earlier mount may show now that this one is gone: only the same filesystem counts.
    const elsewhere = readMountinfo().filter((other) => other.device === entry.device && other.type === entry.type);
    if (elsewhere.length > 0) {
      throw new CommandError(
        `${typed}: unmounted, but the image is still mounted on ${elsewhere[0].mountpoint}: unmount it there as well`,
      );
    }
    await serverGone(server, source, mountpoint);
  } finally {
    clearInterval(ticking);
    progress.end();
  }
  if (!untouched) checkClean(source);
}

/** Takes the mount out of the tree. The kernel writes back what it holds before that succeeds. */
async function detach(typed: string, { mountpoint }: MountEntry, lazy: boolean): Promise<void> {
  let busy = false;
  if (process.geteuid?.() === 0) {
    checkNative();
    const native = requireNative();
    const flags = UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0);
    const result = await new Promise<number>((done) => whenJobDone(native.unmount(mountpoint, flags), done));
    if (result === 0) return;
    // In a user namespace a mount made by fusermount3 is not ours to end.
    if (result !== -1) {
      busy = result === -16;
      if (!busy)
        throw new CommandError(
          `${typed}: cannot be unmounted (errno ${-result}); to detach it: ext4d umount -l ${typed}`,
        );
    }
  }
  if (!busy) {
    const { code, said } = await fusermount([lazy ? '-uz' : '-u', '--', mountpoint]);
    if (code === 0) return;
    busy = /busy/i.test(said);
    // It knows the mounts of who calls it, and no others.
    if (!busy && process.geteuid?.() !== 0 && /not found in|not permitted/i.test(said)) {
      const whose = `${typed}: mounted by another user`;
      throw new CommandError(`${whose}: unmount it as that user, or as root`, MountExit.USAGE);
    }
    if (!busy) throw new CommandError(`${typed}: ${said || `fusermount3 failed with exit code ${code}`}`);
  }
  const users = usersOf(mountpoint, 4);
  const by = users.length > 0 ? ` by ${users.join(', ')}` : '';
  throw new CommandError(`${typed}: busy: in use${by}; end that, or detach it with: ext4d umount -l ${typed}`);
}

function fusermount(args: readonly string[]): Promise<{ code: number; said: string }> {
  return new Promise((done, fail) => {
    const child = spawn('fusermount3', args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (chunk) => {
      said += chunk;
    });
    child.on('error', () =>
      fail(new CommandError('fusermount3 is not installed: apt install fuse3', MountExit.SYSTEM)),
    );
    child.on('close', (code) => done({ code: code ?? -1, said: said.trim().split('\n').join('; ') }));
  });
}

async function serverGone(server: Process | null, source: string, mountpoint: string): Promise<void> {
  const running = () => (server === null ? holdersLeft(source, mountpoint) : isAlive(server));
  const poll = () => new Promise((done) => setTimeout(done, POLL_MS));
  while (running()) await poll();
  // It has let go of everything; whoever lists processes should not find it either.
  for (let i = 0; server !== null && i < REAP_POLLS && processOf(server.pid)?.startTime === server.startTime; i++)
    await poll();
}

/** Without knowing the server: somebody still has the image locked for this mountpoint. */
function holdersLeft(source: string, mountpoint: string): boolean {
  try {
    return lockHolders(source).length > 0 && serverOf(mountpoint, source) !== null;
  } catch {
    return false;
  }
}

/** The server is gone: did it end the image cleanly? Says nothing where that cannot be read. */
function checkClean(source: string): void {
  let needsRecovery = false;
  try {
    if (lockHolders(source).length > 0) return;
    const device = FileDevice.open(source, { readOnly: true, noLock: true });
    try {
      needsRecovery = (readGeometry(device).incompat & INCOMPAT.needs_recovery) !== 0;
    } finally {
      device.close();
    }
  } catch {
    return;
  }
  if (needsRecovery) {
    throw new CommandError(
      `${source}: unmounted, but its server did not end cleanly (see the system log); the log will be replayed ` +
        `at the next mount, or now: ext4d replay ${source}`,
    );
  }
}
