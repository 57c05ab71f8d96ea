// How near a written answer is to the right one, from 0 to 1, as the evaluations of long contexts
// count it. Texts are UTF-8; a byte that is none counts as U+FFFD.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace mullion {

// The text's code points.
std::u32string code_points(std::string_view text);
// What str.split() splits at: separators, and the control characters that end a line or a record.
bool is_white_space(char32_t c);
// What Python's str.lower() and str.split() make of a text.
std::string lower_case(std::string_view text);
// Python's capitalize(): the first letter large, all others small; each stays one letter.
std::string capitalized(std::string_view text);
std::vector<std::string> words_of(std::string_view text);

// SQuAD's normal form (Rajpurkar et al. 2016): lower case, without ASCII punctuation and the words
// a, an and the. With keep_case, letters stay as they are.
std::vector<std::string> plain_words(std::string_view text, bool keep_case = false);
// F1 of the words in normal form, each as often as it occurs; 0 where none is shared.
double word_f1(std::string_view answer, std::string_view right);

// ROUGE-L of whole summaries (Lin 2004) as the package `rouge` computes it: sentences end at ".",
// unions of longest common subsequences are sets of words. 0 where either text has no sentence.
// (The package also gives up, with 0, where two sentences have a thousand words together; this does
// not.)
double rouge_l_of_summary(std::string_view answer, std::string_view right);
// F1 of ROUGE-1, ROUGE-2 and ROUGE-L as the package `rouge-score` computes them, without stems:
// words are runs of a to z and 0 to 9 in lower case.
struct Rouge {
  double one = 0, two = 0, l = 0;
};
Rouge rouge_of(std::string_view answer, std::string_view right);

// Ratcliff and Obershelp's similarity, 2 M / (lengths), as ratio() of Python's
// difflib.SequenceMatcher(None, a, b): in a `b` of 200 characters or more, those that are more than
// 1 % of it begin no match.
double sequence_similarity(std::u32string_view a, std::u32string_view b);

// Of the runs of digits in the answer, the share that is `number`; 0 without any.
double number_share(std::string_view answer, std::string_view number);

}  // namespace mullion
