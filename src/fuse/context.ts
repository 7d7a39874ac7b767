/** What an operation works with. */
import type { FsError } from '../errors.js';
import type { Ino } from '../ext4/inode.js';
import type { DataPath } from './data-path.js';
import type { Engine } from './engine.js';
import type { Negotiated } from './init.js';
import type { LostWrites } from './lost-writes.js';
import type { NodeTable } from './node-table.js';
import type { ReplyWriter } from './reply.js';
import type { Request } from './request.js';

export interface SessionSettings {
  /** Access control lists are kept in step with modes, and new files inherit defaults. */
  readonly acl: boolean;
  /** The kernel checks permissions, and so the lists. */
  readonly permissionsChecked: boolean;
  /** Names of the user namespace (user.*) exist. */
  readonly userXattr: boolean;
  /** Changes of names are durable before they are answered. */
  readonly dirsync: boolean;
  /** A file that takes another's place by rename is written back first (auto_da_alloc). */
  readonly flushesReplacing: boolean;
  /** File data that could not be written aborts the journal. */
  readonly dataErrorAborts: boolean;
  /** The one user besides root who gets answers; null: whoever the kernel lets in. */
  readonly onlyFor: number | null;
  /** Inodes have no room for parts of a second. */
  readonly secondsOnly: boolean;
  /** Let the kernel gather writes in its page cache. */
  readonly writeback: boolean;
  /** Let requests come over io_uring, where the kernel has that. */
  readonly ioUring: boolean;
}

export interface Context {
  readonly fs: Engine;
  readonly nodes: NodeTable;
  readonly reply: ReplyWriter;
  readonly data: DataPath;
  readonly settings: SessionSettings;
  readonly blockSize: number;
  /** What INIT agreed on. */
  negotiated: Negotiated;
  /** Runs the request again when no data of `ino` is being written any more. */
  retryWhenDrained(request: Request, ino: Ino): void;
  /** If space ran out for the moment only: true, and the request runs again later. */
  retryWithMoreSpace(request: Request, error: unknown): boolean;
  /** Answers the request with the error, as if its operation had thrown it. */
  fail(request: Request, error: unknown): void;
  /** One line for the system's log. */
  log(line: string): void;
  /** A held request has been answered: its buffer may be used again. */
  done(request: Request): void;
  /** From now on everything fails, as after a pulled plug. */
  shutDown(): void;
  /** The image becomes clean, and what would change it waits for {@link thaw}. Calls back, perhaps inside the call. */
  freeze(whenDone: (error: FsError | null) => void): void;
  /** False if it was not frozen. */
  thaw(): boolean;
  /** True if requests may come over io_uring; `offered`: by the kernel. */
  openRing(offered: boolean): boolean;
  /** INIT has been answered; DESTROY, or the end of the connection, has come. */
  began(): void;
  destroyed(request: Request): void;
  /** What write-back could not store. */
  readonly lostWrites: LostWrites;
  /** The kernel asks for the attributes of the inode before it uses them again. Some user holds it open. */
  invalidateAttributes(ino: Ino): void;
  /**
   * If the page cache may hold bytes of the file that this server has not seen: true, and the request runs again, once, when they
   * have been written back.
   */
  retryWrittenBack(request: Request, ino: Ino): boolean;
}

export type Operation = (context: Context, request: Request) => void;
