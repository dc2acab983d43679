/** What is left out is settled by the model's `config.json`. */
export interface GenerationOptions {
  numBeams?: number;
  /** The best of the beams that are returned, at most `numBeams`. */
  numReturnSequences?: number;
  maxNewTokens?: number;
  minNewTokens?: number;
  /** A score is the log probability divided by the number of tokens to this power. */
  lengthPenalty?: number;
  earlyStopping?: boolean | "never";
  /** Told the text so far after each token. With it there is one beam, since beams change their mind. */
  onText?: (text: string) => void;
  /** Ends the call with an exception, after the token at work. */
  signal?: AbortSignal;
}

export interface Generated {
  text: string;
  score: number;
  tokenIds: number[];
  targetTokens: string[];
  sourceTokens: string[];
  /** Of each target token over the source tokens, the mean of the heads; `null` of a model without attention. */
  attention: number[][] | null;
}

export interface Classified {
  label: string;
  score: number;
}

export interface Tagged {
  /** For each word between white space; `null` if the tokenizer has dropped it. `text.slice(start, end)` is the word. */
  words: { word: string; label: string | null; start: number; end: number }[];
  /** Of a model that knows intents. */
  intent: string | null;
  score: number | null;
}

export interface Runner {
  readonly config: Record<string, unknown>;
  /** How many bytes were read, and how long that took. */
  readonly loaded: { size: number; milliseconds: number };
  /** What the model makes of a text, the best first. A model of inflection reads a lemma with its features, "gehen V;PST". */
  generate(text: string, options?: GenerationOptions): Promise<Generated[]>;
  /** The labels of a text, the best first. */
  classify(text: string): Promise<Classified[]>;
  tag(text: string): Promise<Tagged>;
}

/** Opens the folder of that address, which `attention-rnn export` has written. */
export function load(url: string | URL): Promise<Runner>;
