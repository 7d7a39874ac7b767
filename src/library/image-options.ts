/** What the methods of {@link Image} may be told: the options of node:fs/promises. */
import type { Mode } from './arguments.js';

export interface ReadFileOptions {
  readonly encoding?: BufferEncoding | null;
  /** 'r' by default. */
  readonly flag?: string | number;
}

export interface WriteFileOptions {
  /** Of strings; UTF-8 by default. */
  readonly encoding?: BufferEncoding | null;
  readonly mode?: Mode;
  /** 'w' by default; 'wx' must make it, 'a' appends. */
  readonly flag?: string | number;
  /** Durable when it resolves. */
  readonly flush?: boolean;
}

/** Bytes, a string, or something that yields them. */
export type FileContent =
  | string
  | NodeJS.ArrayBufferView
  | Iterable<string | NodeJS.ArrayBufferView>
  | AsyncIterable<string | NodeJS.ArrayBufferView>;

export interface MkdirOptions {
  readonly recursive?: boolean;
  readonly mode?: Mode;
}

/** Of a path that comes back; 'buffer': the bytes that it is. */
export interface PathOptions<T = BufferEncoding | 'buffer' | null> {
  readonly encoding?: T;
}

export interface ReaddirOptions extends PathOptions {
  readonly withFileTypes?: boolean;
  readonly recursive?: boolean;
}

export interface RmOptions {
  /** A directory with all that is in it. */
  readonly recursive?: boolean;
  /** What is not there is no error. */
  readonly force?: boolean;
}

export interface RenameOptions {
  /** An existing target is EEXIST. */
  readonly noReplace?: boolean;
  /** The two change places. */
  readonly exchange?: boolean;
}

export interface StatOptions {
  readonly bigint?: boolean;
}

export interface CpOptions {
  /** Directories are copied, with all that is in them. */
  readonly recursive?: boolean;
  /** What is there is replaced; true by default. */
  readonly force?: boolean;
  /** Without `force`: what is there is ERR_FS_CP_EEXIST. It is left alone by default. */
  readonly errorOnExist?: boolean;
  /** Links are followed, not copied. */
  readonly dereference?: boolean;
  /** Relative links lead from the copy where their words say; by default to where the original led. */
  readonly verbatimSymlinks?: boolean;
  readonly preserveTimestamps?: boolean;
  /** COPYFILE_* */
  readonly mode?: number;
  /** What it denies is not copied. */
  readonly filter?: (source: string, target: string) => boolean | Promise<boolean>;
}
