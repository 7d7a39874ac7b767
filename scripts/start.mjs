/**
 * `npm start`: sets up and runs the demonstration. `npm start -- IMAGE MOUNTPOINT [-o OPTIONS]` mounts that instead.
 */
import { spawnSync } from 'node:child_process';
import { constants } from 'node:os';
import { join } from 'node:path';
import { root, setup } from './setup.mjs';

if (!setup()) process.exit(2);

const args = process.argv.slice(2);
const command = args.length === 0 ? ['demo'] : ['mount', ...args];
// npm runs scripts in the package's directory: paths are meant from where npm was called.
const cwd = process.env.INIT_CWD ?? process.cwd();
const { status, signal } = spawnSync(process.execPath, [join(root, 'bin', 'ext4d'), ...command], {
  cwd,
  stdio: 'inherit',
});
const foreground = args.some((word) => word === '-f' || word === '-d' || word === '--foreground');
if (args.length > 0 && status === 0 && !foreground) {
  const places = args.filter((word, i) => !word.startsWith('-') && args[i - 1] !== '-o');
  process.stdout.write(`mounted. When you are done: ${join(root, 'bin', 'ext4d')} umount ${places.at(-1)}\n`);
}
process.exit(status ?? 128 + constants.signals[signal]);
