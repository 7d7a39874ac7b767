/** What every command takes, as data: what is parsed, what `--help` says, and what the manual page is compared with. */
import type { OptionSpec } from './args.js';
import { type CommandName, EXIT_CODES } from './exit-codes.js';
import { OPTION_TEXTS } from './option-texts.js';

interface OptionText extends OptionSpec {
  /** Name of the value. */
  readonly value?: string;
  /** Null: not for people. */
  readonly text: string | null;
}

interface CommandText {
  /** What follows the options. */
  readonly operands: string;
  readonly summary: string;
  /** More sentences, for those who ask for this command. */
  readonly details: string;
  readonly options: Readonly<Record<string, OptionText>>;
  readonly examples: readonly string[];
}

/** Where in an image: see `ImageSource`. */
const PLACE_OPTIONS = {
  part: { type: 'string', value: 'N|LABEL|UUID', text: 'the filesystem in that partition' },
  offset: { type: 'string', value: 'BYTES', text: 'the filesystem that begins there' },
} as const;
const JSON_OPTION = { type: 'boolean', text: 'one line of JSON for programs' } as const;
const JOURNAL_OPTION = {
  type: 'string',
  value: 'DEVICE',
  text: 'where an external journal is; may be given more than once, the UUID decides',
} as const;

export const COMMAND_TEXTS = {
  mount: {
    operands: 'IMAGE|DEVICE MOUNTPOINT',
    summary: 'mount an ext4 image or block device',
    details:
      'Returns once the filesystem is mounted; the server goes on in the background and then logs to syslog. A dirty log ' +
      'is replayed first. As root mount(2) is used, otherwise fusermount3. /dev/fd/N stands for an open image, or for ' +
      'a connection to /dev/fuse that is mounted already.',
    options: {
      foreground: { type: 'boolean', short: 'f', text: 'stay in the foreground' },
      debug: { type: 'boolean', short: 'd', text: 'stay in the foreground and tell what is done' },
      'read-only': { type: 'boolean', short: 'r', text: 'the same as -o ro' },
      'read-write': { type: 'boolean', short: 'w', text: 'the same as -o rw' },
      verbose: { type: 'boolean', short: 'v', text: 'tell about recovery and options without an effect' },
      'single-threaded': { type: 'boolean', short: 's', text: 'accepted: there is one thread that serves, always' },
      options: { type: 'string', short: 'o', value: 'OPTIONS', text: 'mount options, separated by commas' },
      /** Set by the parent of a daemon: "ready" is written there once mounted; then stdio is let go. */
      'ready-fd': { type: 'string', text: null },
    },
    examples: ['ext4d mount disk.img /mnt', 'ext4d mount -o ro,part=2 sdcard.img /mnt'],
  },
  umount: {
    operands: 'MOUNTPOINT',
    summary: 'unmount; returns when the image is clean and the server gone',
    details: 'A plain umount or fusermount3 -u ends clean as well, a moment after it returns.',
    options: { lazy: { type: 'boolean', short: 'l', text: 'detach now; it ends when the last file is closed' } },
    examples: ['ext4d umount /mnt'],
  },
  freeze: {
    operands: 'MOUNTPOINT [-- COMMAND [ARGUMENT]...]',
    summary: 'make a mounted image clean, and hold what would change it until thaw',
    details:
      'What was written is home, the log empty, the image marked clean: it can be copied, or a snapshot taken below it. ' +
      'Reading goes on, and whoever writes waits. With COMMAND it is thawed when that ends, and its exit code is that of ' +
      'freeze. (FUSE does not let fsfreeze(8) through.)',
    options: {},
    examples: ['ext4d freeze /mnt -- cp --sparse=always disk.img backup.img'],
  },
  thaw: {
    operands: 'MOUNTPOINT',
    summary: 'let a frozen filesystem be written again',
    details: '',
    options: {},
    examples: ['ext4d thaw /mnt'],
  },
  replay: {
    operands: 'IMAGE',
    summary: 'recover an image without mounting it: the log, then orphans',
    details: 'What a mount does before it serves. Nothing is repaired, and nothing is written if the log is not sound.',
    options: {
      'dry-run': { type: 'boolean', short: 'n', text: 'only tell what would be done' },
      'log-only': { type: 'boolean', text: 'leave orphans for the next mount' },
      ...PLACE_OPTIONS,
      json: JSON_OPTION,
      journal: JOURNAL_OPTION,
    },
    examples: ['ext4d replay -n disk.img', 'ext4d replay disk.img'],
  },
  journal: {
    operands: 'IMAGE',
    summary: 'show the log, transaction by transaction',
    details: 'For each logged block what it belongs to, and where and why a replay would stop. Nothing is written.',
    options: { ...PLACE_OPTIONS, json: JSON_OPTION, journal: JOURNAL_OPTION },
    examples: ['ext4d journal disk.img | less'],
  },
  info: {
    operands: 'IMAGE',
    summary: 'what an image is, whether ext4d can mount it, and what it needs',
    details:
      'Also of an image that is mounted, as it is at the moment. Of a whole disk the partitions are listed; a ' +
      'filesystem in one of them is shown with --part.',
    options: {
      ...PLACE_OPTIONS,
      json: JSON_OPTION,
      journal: JOURNAL_OPTION,
    },
    examples: ['ext4d info disk.img', 'ext4d info --json disk.img'],
  },
  check: {
    operands: 'IMAGE',
    summary: 'look for contradictions; nothing is written',
    details: 'A dirty log is replayed in memory first. To repair what is found, use e2fsck.',
    options: { ...PLACE_OPTIONS, json: JSON_OPTION, journal: JOURNAL_OPTION },
    examples: ['ext4d check disk.img'],
  },
  quota: {
    operands: 'IMAGE',
    summary: 'what users, groups and projects use, and their limits',
    details:
      'Of an image with the quota feature that is not mounted: a FUSE mount has no quotactl(2). Sizes are in bytes, or with ' +
      'k, m, g or t; 0 is no limit. Limits hold where the mount asks for it (usrquota, grpquota, prjquota).',
    options: {
      set: { type: 'string', value: 'TYPE:ID', text: 'set the limits below of that user, group or project' },
      space: { type: 'string', value: 'SOFT:HARD', text: 'limits of space' },
      inodes: { type: 'string', value: 'SOFT:HARD', text: 'limits of the number of files' },
      grace: {
        type: 'string',
        value: 'TYPE:SPACE:INODES',
        text: 'seconds for which a soft limit may be passed, of all users, groups or projects',
      },
      ...PLACE_OPTIONS,
      json: JSON_OPTION,
      journal: JOURNAL_OPTION,
    },
    examples: ['ext4d quota disk.img', 'ext4d quota --set user:1000 --space 90m:100m disk.img'],
  },
  crashtest: {
    operands: '-- COMMAND [ARGUMENT]...',
    summary: "crash a program's filesystem at every moment, and see which of its promises are broken",
    details:
      'COMMAND runs in a scratch filesystem, its working directory, with every write and flush recorded. Every state ' +
      'that a power cut could have left is recovered, and those that differ are shown to the verifier. Without one only ' +
      "ext4d's own recovery is tested.",
    options: {
      setup: { type: 'string', value: 'SHELL', text: 'run before recording begins' },
      verify: {
        type: 'string',
        value: 'SHELL',
        text: 'run in each recovered filesystem, on its standard input what COMMAND had printed by the time of the crash; exit code 0: all promises are kept',
      },
      size: { type: 'string', value: 'MIB', text: 'of the scratch filesystem (64)' },
      mkfs: { type: 'string', value: 'OPTIONS', text: 'for mke2fs' },
      most: { type: 'string', value: 'N', text: 'recovered filesystems to verify (300)' },
      seed: { type: 'string', value: 'N', text: 'for the choice of crash states (1)' },
      timeout: {
        type: 'string',
        value: 'SECONDS',
        text: 'for each --verify (60); after five that take longer the rest is not verified',
      },
      report: { type: 'string', value: 'FILE', text: 'the report in HTML (ext4d-crashtest.html; - for none)' },
      keep: {
        type: 'string',
        value: 'DIR',
        text: 'write there the first image of each kind of broken state, and the whole history as a dm-log-writes log',
      },
    },
    examples: [`ext4d crashtest --verify './verify.sh' -- ./program`],
  },
  demo: {
    operands: '',
    summary: 'make an image, kill its server in mid-write, and show that nothing fsynced is lost',
    details: 'Works in a directory of its own below TMPDIR, and leaves nothing behind.',
    options: {},
    examples: [],
  },
} as const satisfies Record<CommandName, CommandText>;

const text = (name: CommandName): CommandText => COMMAND_TEXTS[name];

export const isCommand = (name: string): name is CommandName => Object.hasOwn(COMMAND_TEXTS, name);

/** "ext4d info [--json] [--journal DEVICE] IMAGE" */
export function usageOf(name: CommandName): string {
  const { options, operands } = text(name);
  const visible = Object.entries(options).filter(([, option]) => option.text !== null);
  const words =
    visible.length > 5
      ? ['[OPTIONS]']
      : visible.map(([long, { short, value }]) => {
          const flag = short === undefined ? `--${long}` : `-${short}`;
          return value === undefined ? `[${flag}]` : `[${flag} ${value}]`;
        });
  return ['ext4d', name, ...words, operands].filter(Boolean).join(' ');
}

const WIDTH = 100;

/** Lines of at most {@link WIDTH} columns, the first behind `first`, the others below it. */
function wrapped(first: string, indent: number, words: string): string {
  const lines: string[] = [];
  let line = first.padEnd(indent);
  if (line.length > 0 && !line.endsWith(' ')) {
    lines.push(line);
    line = ' '.repeat(indent);
  }
  for (const word of words.split(' ')) {
    if (line.length + word.length > WIDTH && line.trim() !== '') {
      lines.push(line.trimEnd());
      line = ' '.repeat(indent);
    }
    line += `${word} `;
  }
  return `${[...lines, line.trimEnd()].join('\n')}\n`;
}

const OPTION_COLUMN = 26;

/** What `ext4d help NAME` says. */
export function helpOf(name: CommandName): string {
  const { summary, details, options, examples } = text(name);
  const list = Object.entries(options).map(([long, { short, value, text }]) => {
    if (text === null) return '';
    const flags = `${short === undefined ? '    ' : `-${short}, `}--${long}${value === undefined ? '' : ` ${value}`}`;
    return wrapped(`  ${flags}`, OPTION_COLUMN, text);
  });
  const sections = [
    `usage: ${usageOf(name)}\n`,
    wrapped('', 0, `${summary[0].toUpperCase()}${summary.slice(1)}. ${details}`),
    list.length === 0 ? '' : `Options:\n${list.join('')}`,
    name === 'mount' ? mountOptionsHelp() : '',
    examples.length === 0 ? '' : `Examples:\n${examples.map((line) => `  ${line}\n`).join('')}`,
    `Exit codes:\n${EXIT_CODES[name].map(({ code, meaning }) => `  ${String(code).padStart(3)}  ${meaning}\n`).join('')}`,
  ];
  return sections.filter(Boolean).join('\n');
}

function mountOptionsHelp(): string {
  const rows = OPTION_TEXTS.map(({ words, text }) => wrapped(`  ${words}`, OPTION_COLUMN, text));
  return (
    `Mount options:\n${rows.join('')}  Those of ext4, mount(8), fstab and FUSE that change nothing here are accepted; ` +
    'what cannot be done\n  is refused by name. All words: man 8 ext4d\n'
  );
}

/** What `ext4d help` says. */
export function overview(): string {
  const rows = (Object.keys(COMMAND_TEXTS) as CommandName[]).map((name) =>
    wrapped(`  ${name}`, 13, text(name).summary),
  );
  return `ext4d: an ext4 filesystem server in user space, with a real jbd2 journal

usage: ext4d COMMAND [OPTIONS] ...
${rows.join('')}
  ext4d help COMMAND     its options, mount options, exit codes   (or: ext4d COMMAND --help)
  ext4d --version

Begin with:
  ext4d info IMAGE       can it be mounted, and does it need anything?
  ext4d mount IMAGE DIR
  ext4d umount DIR
`;
}
