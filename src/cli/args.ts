/** Command line arguments, parsed strictly. */
import { parseArgs } from 'node:util';

/** What was typed is wrong; the message is one line. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UsageError';
  }
}

/** A word after -o is wrong: the message says all there is to say. */
export class OptionError extends UsageError {}

export interface OptionSpec {
  readonly type: 'boolean' | 'string';
  readonly short?: string;
}

export interface ParsedArguments<Name extends string> {
  readonly flags: Readonly<Record<Name, boolean>>;
  /** Values of the string options, in the order given. */
  readonly values: Readonly<Record<Name, readonly string[]>>;
  readonly positionals: readonly string[];
}

/** Throws {@link UsageError} for unknown options and for another number of positionals than `names` has. */
export function parseArguments<Name extends string>(
  args: readonly string[],
  options: Readonly<Record<Name, OptionSpec>>,
  names: readonly string[],
): ParsedArguments<Name> {
  const config = Object.fromEntries(
    (Object.entries(options) as [Name, OptionSpec][]).map(([name, spec]) => [name, { ...spec, multiple: true }]),
  );
  let parsed: { values: Record<string, unknown>; positionals: string[] };
  try {
    parsed = parseArgs({ args: [...args], options: config, allowPositionals: true, strict: true });
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new UsageError(error.message.split('. ')[0]);
  }
  const { positionals } = parsed;
  if (positionals.length !== names.length) {
    const missing = names.slice(positionals.length);
    throw new UsageError(
      missing.length > 0
        ? `missing ${missing.join(' and ')}`
        : `"${positionals[names.length]}" is one argument too many`,
    );
  }
  const flags = {} as Record<Name, boolean>;
  const values = {} as Record<Name, string[]>;
  for (const name of Object.keys(options) as Name[]) {
    const given = (parsed.values[name] ?? []) as (string | boolean)[];
    flags[name] = given.includes(true);
    values[name] = given.filter((value) => typeof value === 'string');
  }
  return { flags, values, positionals };
}
