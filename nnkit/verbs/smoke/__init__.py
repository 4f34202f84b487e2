"""The verb smoke-run: does a model really run, train and behave on this device?"""
