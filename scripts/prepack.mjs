/**
 * Before `npm pack`: everything is built, and the native addon lies where the package ships it, so that installing it takes
 * no compiler and no download. Where that one does not load, the first run builds it from the sources, which are shipped too.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { root, setup } from './setup.mjs';

if (!setup({ packages: {} })) process.exit(2);

const directory = join(root, 'native', 'prebuilt', `${process.platform}-${process.arch}`);
mkdirSync(directory, { recursive: true });
const unfinished = join(directory, `.${process.pid}`);
copyFileSync(join(root, 'native', 'build', 'Release', 'ext4d.node'), unfinished);
// Without strip it is only larger.
spawnSync('strip', ['--strip-unneeded', unfinished], { stdio: 'ignore' });
renameSync(unfinished, join(directory, 'ext4d.node'));
