"""Ad click prediction: how likely is it that this user clicks this ad here and now?"""
