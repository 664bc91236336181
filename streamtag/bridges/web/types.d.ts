// Types that several modules of the pages share, for `tsc`. Browsers never see this file.

type Look = import("./static/look.js").Look;
type Stream = import("./static/stream.js").Stream;
type TagBook = import("./static/tag-book.js").TagBook;
type Context = CanvasRenderingContext2D;

/** A place on the mood plane: valence and arousal. */
type Spot = [number, number];
type NamedSpot = { name: string; position: Spot; lit: boolean };
type Mood = { valence: number; arousal: number; certainty: number };

/** What the server knows of a tag, see GET /api/tags. It goes on at the threshold; its name is
 * empty if the configuration has none in the language. */
type Description = { category: string; threshold: number; position: Spot | null; name: string };
type Descriptions = Record<string, Description>;

/** A tag that is on, with the newest smoothed probability; since when, on the page's own clock in
 * milliseconds; its name in the stream's language, or empty. */
type ActiveTag = { tag: string; display: string; probability: number; since: number };

/** The last half second in dB of full scale, its loudness in LUFS if that is measured; when, on the
 * page's own clock. */
type Level = { peak: number; mean: number; lufs?: number | null; at: number };

type State = "failed" | "lost" | "silent" | "waiting" | "up" | "paused";
type Scene =
  | ("music" | "uncertain" | "speech" | "silence" | "paused")
  | ("lost" | "offline" | "refused" | "waiting");
type WordPlace = "mood" | "genre" | "instrument";
type TagPlace = WordPlace | "speech" | "kind";

/** A word on the wall. Its score in [0, 1] says how far it is above its threshold, and for how
 * long; when it came and when it last deserved its place, in milliseconds. It is doubtful if it is
 * less probable than not, and not far above its threshold. */
type Word = {
  tag: string;
  display: string;
  score: number;
  shown: number;
  seen: number;
  doubtful: boolean;
};
type Words = Record<WordPlace, Word[]>;

/** The heading of a group of streams: how many they are, and how many are bad. */
type Group = { group: string; count: number; bad: number };
type Item = Stream | Group;

/** Begin and end in milliseconds since 1970, perhaps with a label. */
type Span = [number, number, string?];
/** Its paint is a colour of the stylesheet; empty for that of the row's tag. */
type Bar = { paint: string; inset: number; spans: Span[] };
/** A row of the time line, see GET /part/timeline. */
type TimelineRow = { name: string; tagger?: string; tag?: string; bars: Bar[] };

/** Lightness from 0 to 1, and a place between green and red and between blue and yellow, OKLab. */
type Lab = [number, number, number];
type Palette = { deep: Lab; mid: Lab; bright: Lab; accent: Lab };

/** How a theme draws: for a light ground, on no ground; seconds since the last picture. */
type Drawing = { light: boolean; transparent: boolean; seconds: number; font: string };
/** How letters of a chart look. */
type Letters = { paint?: string; align?: CanvasTextAlign; size?: number; weight?: number };
/** What the parts of a constellation share: where a place on the plane is in the picture, that of
 * the star on the plane, and half the plane's width. */
type SkyPicture = { context: Context; look: Look; colours: Palette; light: boolean; ink: Lab } & {
  at: (spot: Spot, far?: number) => Spot;
  star: Spot;
  side: number;
};
