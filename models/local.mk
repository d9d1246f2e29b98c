# The bundled model and the file that registers it. Its path is relative, so that an installed tree can be moved.
tinymodeldir = $(modeldir)/tiny-r1
dist_tinymodel_DATA = \
	models/tiny-r1/checkpoint/config.json \
	models/tiny-r1/checkpoint/generation_config.json \
	models/tiny-r1/checkpoint/model.safetensors \
	models/tiny-r1/checkpoint/tokenizer.json \
	models/tiny-r1/checkpoint/tokenizer_config.json

vendormodelsdir = $(vendordir)/models.d
vendormodels_DATA = models/tiny-r1.yaml
CLEANFILES += models/tiny-r1.yaml
EXTRA_DIST += \
	models/tiny-r1-default.yaml \
	models/tiny-r1.yaml.in \
	models/tiny-r1/MODEL_CARD.md \
	models/tiny-r1/evaluate.py \
	models/tiny-r1/make-model \
	models/tiny-r1/phrasings.json \
	models/tiny-r1/recipe \
	models/tiny-r1/talk.json \
	models/tiny-r1/words

models/tiny-r1.yaml: $(srcdir)/models/tiny-r1.yaml.in Makefile
	$(AM_V_GEN)$(MKDIR_P) models && \
	path=`realpath -m -s --relative-to='$(vendormodelsdir)' '$(tinymodeldir)'` && \
	sed "s|@path@|$$path|" $(srcdir)/models/tiny-r1.yaml.in >$@.tmp && mv $@.tmp $@

# Where the model is not installed, it is not the default one either.
vendorconfdir = $(vendordir)/conf.d
vendorconf_DATA = models/conf.d/tiny-r1.yaml
CLEANFILES += models/conf.d/tiny-r1.yaml

models/conf.d/tiny-r1.yaml: $(srcdir)/models/tiny-r1-default.yaml
	$(AM_V_GEN)$(MKDIR_P) models/conf.d && cp $(srcdir)/models/tiny-r1-default.yaml $@
