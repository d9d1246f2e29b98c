/* common.h - what every format plugin needs: reading from a descriptor, names in sentences, words of a vocabulary.
 *
 *   files.c     pread until it is all there; names from a file made fit for a sentence
 *   alphabet.c  the printable alphabet in which byte-level vocabularies are written, undone
 *   words.c     which id a word has, and the merges that follow from it
 *   enders.c    which tokens end an answer
 *   sizes.h     words for the sizes of tensors
 *
 * A folder without a plugin: a library that the format plugins link. */
#pragma once

#include <deepseekd/format.h>

/* A name from a file, cut and made printable, to be put into a sentence. */
struct ds_shown {
	char text[88];
};
struct ds_shown ds_shown(const char *name);
struct ds_shown ds_shown_bytes(const char *name, size_t size);

/* -EINVAL: the file ends before. */
int ds_file_read(const struct ds_file *file, uint64_t offset, void *buffer, size_t size, struct ds_error *err);

/* Undo the alphabet: the bytes that @text stands for go to @out, which has room for @size of them.
 * False: @text is not written in the alphabet. */
bool ds_alphabet_undo(const char *text, size_t size, char *out, uint32_t *out_size);

/* The words of a vocabulary as its file spells them, to be found by their text. */
struct ds_word {
	const char *text; /* borrowed */
	uint32_t size;
	uint32_t id;
	bool added; /* found only where no other word has the same text */
	uint64_t head; /* set by ds_words_sort(): the first bytes of the text as a number */
};

struct ds_words_index {
	struct ds_word *words; /* owned; [n], sorted */
	uint32_t n;
};

/* Take the words that were put into @index->words, in any order. Of equal ones the lowest id is found. */
void ds_words_sort(struct ds_words_index *index);
void ds_words_index_deinit(struct ds_words_index *index);

/* The two words of a merge, as the file spells them. */
struct ds_pair {
	const char *left, *right;
	size_t left_size, right_size;
};

/* The pair in a text "left right". False: it is not two words with one space between. */
bool ds_pair_split(struct ds_pair *pair, const char *text, size_t size);
/* The ids of both words and of what they make together. -EINVAL: one is not in the vocabulary; the sentence begins with
 * @file and @key, the place of the merge being @i. */
int ds_pair_resolve(struct ds_merge *out, const struct ds_pair *pair, const struct ds_words_index *index,
		    const char *file, const char *key, size_t i, struct ds_error *err);

/* The id of the added token @text, or DS_NO_TOKEN. The texts of added tokens end with a NUL. */
uint32_t ds_added_id(const struct ds_vocabulary *v, const char *text);
/* Let @id end an answer, if it is a token and there is room. */
void ds_add_eos(struct ds_vocabulary *v, uint32_t id);
/* The added tokens that end an answer wherever they exist, and bos, because no answer may contain them. */
void ds_add_enders(struct ds_vocabulary *v);
