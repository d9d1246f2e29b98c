// Texts to try tokenizers with, ever the same ones: made of small lists of words by a generator of numbers with a seed.

const words = {
  english: "the of and model weights isn't we'll daemon service listening through language token's a I memory",
  german: "der Führer über Straße großes Österreich nicht können Donaudampfschifffahrt und für Mädchen schön",
  french: "l'été où était naïve œuvre garçon c'est déjà français aujourd'hui à la une forêt maïs",
  spanish: "el niño mañana corazón ¿qué ¡hola! pingüino está año señor rápido español también",
  portuguese: "não coração ação você português à São está irmã avô maçã além também",
  polish: "żółć gęślą jaźń się źródło człowiek świętować wszystko łódź będzie przyjaciół",
  czech: "příliš žluťoučký kůň úpěl ďábelské ódy řeka město člověk svět že",
  turkish: "İstanbul ığdır güneş çocuk şehir öğretmen değil için ağaç ılık kış",
  vietnamese: "không người Việt được những tiếng đường thường nghĩa một và của quốc",
  russian: "и в не на я быть модель память сервер который ёж объём язык съел",
  ukrainian: "і в не що її ґанок м'яч об'єкт їжак мова пам'ять український",
  greek: "και το να ελληνικά Ἀθῆναι μνήμη γλώσσα είναι ἄνθρωπος λόγος ώρα",
  arabic: "في من على اللغة العربية نموذج الذاكرة مُحَمَّد كِتَابٌ ١٢٣ هذا",
  hebrew: "של את על הוא עברית זיכרון שָׁלוֹם מודל שפה לא כן",
  hindi: "है में की हिन्दी भाषा स्मृति मॉडल नमस्ते क्षेत्र विद्यार्थी १२३ और",
  thai: "ภาษาไทย สวัสดี หน่วยความจำ ไม่ได้ ที่ และ น้ำ ผู้ใหญ่ ๑๒๓",
  chinese: "的 是 我们 语言模型 内存 你好，世界！ 不 了 今天天气很好。 深度求索 「中文」",
  japanese: "日本語 です モデル メモリ こんにちは、世界。 ありがとう カタカナー は が を 東京都",
  korean: "한국어 모델 메모리 안녕하세요 세계 그리고 입니다 서울 있다 없는 값을",
  swahili: "habari kumbukumbu lugha ya na kwa mtu watu ng'ombe wanafunzi hakuna nzuri",
};

const code = ["int", "main(void)", "{", "}", "\n\t", "\n    ", "\n        ", "return", "0x1F;", "if", "(x", "==", "y)", "->next", "self.value", "def f(x):", "\r\n", "//",
  "/* a */", "#include <stdio.h>", "\"%s\\n\"", "&&", "||", "a[i++]", "=>", "${name}", "`x`", "<div class=\"a\">", "</div>", "SELECT *", "_id", "camelCase", "SNAKE_CASE",
  "λx.x", "!=", "::", "...", "'''", "\\t", "@decorator", "x86_64", "0.5e-10", "\t\t", "  ", ";;", "--flag=1", "~/.config", "https://example.org/a?b=c&d=%20#e"];

const emoji = ["😀", "👩‍💻", "👨‍👩‍👧‍👦", "🇩🇪", "🏳️‍🌈", "❤️", "👍🏽", "☃", "✈️", "🦙", "1️⃣", "🤷🏻‍♀️", "🫠", "©", "™", "♥", "🀄", " ", "  ", "!", "ok", "\n"];

const controls = ["\0", "\x01", "\x07", "\b", "\t", "\n", "\v", "\f", "\r", "\x1b[31m", "\x7f", "\x80", "\x85", "\xa0", "\xad", "\u0600", "\u180e", "\u200b", "\u200d", "\u200e",
  "\u2028", "\u2029", "\u202e", "\u2060", "\u3000", "\ufe0f", "\ufeff", "\ufff9", "\ufffd", "\ufffe", "\u{e0001}", "\u{10ffff}", "\ue000", " ", "  ", "a", "Z", "é", "1", ".", "\r\n"];

const marks = [".", ",", "!", "?", "...", ";", ":", " -", " —", "»", "\"", "'", ")", "…", "。", "、", "？", "؟", "।", "!!\n", "?\r\n", ".\n\n", ",\t", "'s", "'LL", "'Re"];

// Blocks whose letters have been the same since long before the Unicode versions that anybody here has.
const blocks = [[0x20, 0x7e], [0xa0, 0x24f], [0x250, 0x2af], [0x300, 0x36f], [0x370, 0x3ff], [0x400, 0x52f], [0x531, 0x556], [0x591, 0x5f4], [0x620, 0x6ff], [0x904, 0x939],
  [0xe01, 0xe3a], [0x10a0, 0x10c5], [0x1100, 0x11ff], [0x13a0, 0x13f5], [0x1e00, 0x1fff], [0x2000, 0x206f], [0x2070, 0x20bf], [0x2100, 0x218b], [0x2190, 0x23ff],
  [0x2460, 0x27bf], [0x3000, 0x30ff], [0x3105, 0x312f], [0x3200, 0x33ff], [0x4e00, 0x9fa5], [0xa000, 0xa48c], [0xac00, 0xd7a3], [0xe000, 0xf8ff], [0xf900, 0xfad9],
  [0xfb00, 0xfb06], [0xfe20, 0xfe2f], [0xff01, 0xffee], [0x10000, 0x100fa], [0x10400, 0x1049d], [0x1d400, 0x1d7ff], [0x1f300, 0x1f64f], [0x20000, 0x2a6d6]];

// Whole numbers from 0 to below n, after Marsaglia's xorshift32.
function numbers(seed) {
  let state = seed;
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
}

const repeat = (n, make) => Array.from({ length: n }, make).join("");

// { kind: how to make a text of it }. Each is called with the generator, the number of the text and the added tokens.
const kinds = {
  prose(random, i) {
    const languages = Object.values(words);
    const list = languages[i % languages.length].split(" ");
    return repeat(3 + random(20), () => list[random(list.length)] + (random(5) ? " " : marks[random(marks.length)] + " "));
  },
  code(random) {
    return repeat(3 + random(20), () => code[random(code.length)] + (random(2) ? " " : ""));
  },
  digits(random) {
    const forms = [() => `${random(1e9)}`, () => `${random(1e6)}.${random(1e4)}`, () => "٠١٢٣٤٥٦٧٨٩".slice(random(9)), () => `${random(100)}%`, () => "½Ⅷ²①㊿".slice(random(4)),
      () => "１２３４５".slice(random(4)), () => `-${random(5000)}e+${random(30)}`, () => "7".repeat(1 + random(12)), () => `${random(24)}:${random(60)}`, () => "१२३४"];
    return repeat(1 + random(8), () => forms[random(forms.length)]() + [" ", "", ",", "\n"][random(4)]);
  },
  mixed(random) {
    const languages = Object.values(words);
    return repeat(3 + random(12), () => {
      const list = random(4) ? languages[random(languages.length)].split(" ") : random(2) ? code : emoji;
      return list[random(list.length)] + ["", " ", "  ", marks[random(marks.length)]][random(4)];
    });
  },
  emoji(random) {
    return repeat(1 + random(12), () => emoji[random(emoji.length)]);
  },
  controls(random) {
    return repeat(1 + random(20), () => controls[random(controls.length)]);
  },
  unicode(random) {
    return repeat(1 + random(24), () => {
      const [first, last] = blocks[random(blocks.length)];
      return String.fromCodePoint(first + random(last - first + 1));
    });
  },
  markup(random, i, added) {
    const list = words.english.split(" ");
    return repeat(2 + random(8), () => (random(2) ? added[random(added.length)] : list[random(list.length)]) + ["", " ", "\n"][random(3)]);
  },
};

// [{ kind, text }], n of them, prose being half.
export function texts(n, added) {
  const random = numbers(20240229);
  const names = Object.keys(kinds);
  return Array.from({ length: n }, (_, i) => {
    const kind = i % 2 ? "prose" : names[(i / 2) % names.length];
    return { kind, text: kinds[kind](random, i >> 1, added) };
  });
}
