/**
 * Makes build/rehearsal.img, the small filesystem on which a fresh server rehearses (src/fuse/rehearsal.ts), unless it is
 * there. Without mke2fs there is none, and the first operations of each mount are slower.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { delimiter, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const build = join(resolve(dirname(fileURLToPath(import.meta.url)), '..'), 'build');
const image = join(build, 'rehearsal.img');

if (!existsSync(image)) {
  mkdirSync(build, { recursive: true });
  const unfinished = `${image}.${process.pid}`;
  const args = ['-q', '-F', '-t', 'ext4', '-b', '1024', '-J', 'size=1', '-N', '4096', unfinished, '8M'];
  const env = { ...process.env, PATH: `${process.env.PATH ?? ''}${delimiter}/usr/sbin${delimiter}/sbin` };
  const { status } = spawnSync('mke2fs', args, { stdio: 'ignore', env });
  // Whole or not at all: two builds may run at once.
  if (status === 0) renameSync(unfinished, image);
  else rmSync(unfinished, { force: true });
}
