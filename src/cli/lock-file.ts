/** lockfile=PATH, as fuse2fs has it: a file that is there for as long as the image is in use. */
import { closeSync, openSync, rmSync } from 'node:fs';
import { resolve } from 'node:path';
import { CommandError } from './command-error.js';

export interface LockFile {
  release(): void;
}

/** Throws CommandError if it is there already. */
export function takeLockFile(file: string): LockFile {
  // The server leaves its directory.
  const path = resolve(file);
  try {
    closeSync(openSync(path, 'wx'));
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    throw new CommandError(
      code === 'EEXIST'
        ? `lockfile=${file}: it is there already: another server uses the image, or was killed; then remove it`
        : `lockfile=${file}: cannot be created: ${code}: name another file`,
    );
  }
  return { release: () => rmSync(path, { force: true }) };
}
